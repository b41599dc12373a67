"""I8 to I10: a new model takes over, goes back and takes over again while queries go on."""

from pathlib import Path

import httpx2
import pytest

from bench.load import LoadProcess, answered_by
from rag_assets.cli import services
from rag_assets.core.models.spec import collection_name
from rag_assets_tests.scenarios.upgrade import NEW, OLD, Upgrade, two_models, upgrade
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.variants import variant
from rag_assets_tests.support.waiting import awaited

DOCUMENTS = 40
CLIENTS, PAUSE = 2, 0.1  # seconds; without a pause, they would take all CPU
GATE = {
    "GATE_QUERIES": "20",
    "GATE_TIMED_QUERIES": "5",
}  # it has tests of its own; this one is of queries


@pytest.mark.parametrize("kind", ["rotated", "short"])
def test_queries_go_on_and_are_never_mixed_through_a_whole_upgrade(
    kind: str, milvus_uri: str, tmp_path: Path
) -> None:
    other = variant(kind)
    with (
        two_models(other) as server,
        upgrade(tmp_path, milvus_uri, server.url, other, DOCUMENTS, **GATE) as steps,
        LoadProcess.running(tmp_path, steps.questions(), CLIENTS, PAUSE) as load,
    ):
        asked_until(load, steps, OLD)
        for name, step, live in steps.phases():
            step()
            assert steps.live() == live
            asked_until(load, steps, live)
            if name != "retirement":
                assert steps.indexed(OLD) == steps.indexed(NEW) == steps.expected()
        assert collection_name(steps.settings.alias, OLD) not in steps.witness.list_collections()

    assert [answer.error for answer in load.answers() if answer.error] == []
    assert set(answered_by(load.answers(), steps.encoders)) == {OLD, NEW}


def test_the_search_service_answers_through_an_upgrade_and_is_never_mixed(
    milvus_lite: str, tmp_path: Path
) -> None:
    """The same over HTTP: a process of its own, which follows the alias."""
    other = variant("rotated")
    [port] = free_ports(1)
    with (
        two_models(other) as server,
        upgrade(tmp_path, milvus_lite, server.url, other, DOCUMENTS, **GATE) as steps,
        services.running([services.search_service(port)], steps.settings),
    ):
        url = f"http://{services.HOST}:{port}"
        awaited(lambda: httpx2.get(f"{url}/readyz", **services.LOOPBACK).is_success, "readiness")
        with LoadProcess.running(tmp_path, steps.questions(), CLIENTS, PAUSE, url) as load:
            asked_until(load, steps, OLD)
            for _, step, live in steps.phases():
                step()
                asked_until(load, steps, live)
        release = httpx2.get(f"{url}/v1/release", **services.LOOPBACK).json()

    assert [answer.error for answer in load.answers() if answer.error] == []
    assert set(answered_by(load.answers(), steps.encoders)) == {OLD, NEW}
    assert release["model"] == NEW


def asked_until(load: LoadProcess, steps: Upgrade, model: str) -> None:
    """Wait until queries are answered by a model."""

    def answered() -> bool:
        return answered_by(load.answers()[-1:], steps.encoders) == [model]

    awaited(answered, f"an answer of {model}")
