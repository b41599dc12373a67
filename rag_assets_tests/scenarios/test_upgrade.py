"""I8 to I10: a new model takes over, goes back and takes over again while queries go on."""

from pathlib import Path

import pytest

from bench.load import Load, answered_by
from rag_assets.search import Searcher
from rag_assets_tests.scenarios.platform import awaited
from rag_assets_tests.scenarios.upgrade import NEW, OLD, Upgrade, upgrade
from rag_assets_tests.variants import variant

DOCUMENTS = 40


@pytest.mark.parametrize("kind", ["rotated", "short"])
def test_queries_go_on_and_are_never_mixed_through_a_whole_upgrade(
    kind: str, milvus_uri: str, tmp_path: Path
) -> None:
    with (
        upgrade(tmp_path, milvus_uri, variant(kind), DOCUMENTS) as steps,
        Searcher.open() as searcher,
        Load(searcher.search, steps.questions()).running(3) as load,
    ):
        steps.build()
        both_equal_the_source(steps)
        steps.promote()
        asked_until(load, steps, NEW)
        steps.edit()
        steps.settle()
        both_equal_the_source(steps)
        steps.roll_back()
        asked_until(load, steps, OLD)
        assert searcher.release().spec.key == OLD
        steps.edit()
        steps.settle()
        both_equal_the_source(steps)
        steps.promote()
        asked_until(load, steps, NEW)
        steps.retire()
        assert steps.witness.list_collections().count(f"{steps.settings.alias}__old_v1") == 0

    assert [answer.error for answer in load.answers if answer.error] == []
    assert set(answered_by(load.answers, steps.encoders)) == {OLD, NEW}


def both_equal_the_source(steps: Upgrade) -> None:
    wanted = steps.expected()
    assert steps.indexed(OLD) == wanted
    assert steps.indexed(NEW) == wanted


def asked_until(load: Load, steps: Upgrade, model: str) -> None:
    """Wait until queries are answered by a model."""

    def answered() -> bool:
        return answered_by(load.answers[-1:], steps.encoders) == [model]

    awaited(answered, f"an answer of {model}")
