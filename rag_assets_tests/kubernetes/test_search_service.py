"""The chart's search service loses no query: not by an upgrade, a rollout or a switch of models.

Clients ask through its Service without an end, two of them over connections that they keep, while
its pods come and go. What they got is judged at the end of each test: no error, and no answer that
two models have had a part in.
"""

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx2
import pytest

from bench.load import Load, answered_by
from rag_assets.cli.services import LOOPBACK
from rag_assets.core.names import Asset, Job
from rag_assets_tests.kubernetes.installation import NAME, Installation, installation
from rag_assets_tests.kubernetes.records import Pod
from rag_assets_tests.scenarios.environment import MODELS
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import WORDLLAMA, wordllama
from rag_assets_tests.support.search_service import ANN, ROOT
from rag_assets_tests.support.variants import variant
from rag_assets_tests.support.waiting import awaited

OLD, NEW = WORDLLAMA, MODELS[1]
ENCODERS = {OLD: wordllama(), NEW: variant("rotated")}
SERVICE = f"{NAME}-search-service"
DOCUMENTS = ("a1", "b2", "c3", "d4")
QUESTIONS = [f"Section {number} of {name}" for name in DOCUMENTS for number in range(3)]
CLIENTS, PAUSE = 2, 0.2  # seconds; without any, they would leave no CPU for those who answer
SEARCH = {
    "enabled": True,
    "tokens": {"existingSecret": "tokens"},
    "drainSeconds": 20,  # probes need up to 4 and nodes up to 2, on a machine that is not busy
    "resources": {"requests": {"cpu": "500m"}},
}
GATE = {  # it has tests of its own
    "gate_queries": 20,
    "gate_timed_queries": 5,
    "gate_margin": 0.1,
    "gate_latency_seconds": 60,
    "serve_timeout_seconds": 60,
}


class Found(NamedTuple):
    text: str
    score: float


@dataclass
class Clients:
    """Asks the service, every other time over a connection that is kept."""

    url: str
    kept: httpx2.Client
    turns: list[None] = field(default_factory=list)

    def search(self, question: str, limit: int) -> list[Found]:
        self.turns.append(None)
        body = {"question": question, "limit": limit}
        if len(self.turns) % 2:
            answer = self.kept.post("/v1/search", json=body)
        else:
            answer = httpx2.post(
                f"{self.url}/v1/search", json=body, headers=ANN, timeout=60, **LOOPBACK
            )
        answer.raise_for_status()
        return [Found(hit["text"], hit["score"]) for hit in answer.json()["hits"]]


@dataclass
class Served:
    """The installed chart, and where clients reach the service."""

    installed: Installation
    url: str

    def client(self, caller: dict[str, str] = ANN) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, headers=caller, timeout=60, **LOOPBACK)

    def pods(self) -> list[Pod]:
        return self.installed.cluster.pods(SERVICE)

    @contextmanager
    def asked(self) -> Iterator[Load]:
        """Let clients ask as long as the block lasts, and some questions before and after it."""
        with self.client() as kept:
            load = Load(Clients(self.url, kept).search, QUESTIONS, PAUSE)
            with load.running(CLIENTS):
                _await_answers(load)
                yield load
                _await_answers(load)


def _await_answers(load: Load) -> None:
    before = len(load.answers)
    awaited(lambda: len(load.answers) >= before + 20 * CLIENTS, "answers")


@pytest.fixture(scope="module")
def served(s3_endpoint: str) -> Iterator[Served]:
    """The service is there from the first install on, which waits for its pods to be ready."""
    models = {NEW: ENCODERS[NEW]}
    given = {"settings": GATE, "metrics": {"enabled": False}, "search": SEARCH}
    with installation(s3_endpoint, models, **given) as created:
        assert created.live() is None
        for name in DOCUMENTS:
            created.put(f"{name}.md", document(name))
        created.await_convergence()
        awaited(lambda: created.live() == OLD, "the first model to be live")
        created.await_idle()
        awaited(
            lambda: all(
                asked_directly(pod, "/readyz") == 200 for pod in created.cluster.pods(SERVICE)
            ),
            "its pods to answer",
        )
        created.await_rollout(SERVICE)  # the kubelet knows that they do
        with created.cluster.service(SERVICE) as url:
            yield Served(created, url)
        assert created.cluster.unknown == []


def nothing_lost(load: Load, models: Sequence[str] = (OLD,)) -> None:
    """Assert that each question was answered, by one of these models alone, and each was there."""
    assert [answer.error for answer in load.answers if answer.error] == []
    assert set(answered_by(load.answers, ENCODERS)) == {*models}


def test_it_answers_and_explains_with_its_own_account(served: Served) -> None:
    with served.client(ROOT) as client:
        found = client.post("/v1/search", json={"question": QUESTIONS[0]}).json()
        explained = client.post("/v1/explain", json={"document_id": "a1.md"})
    anonymous = httpx2.post(f"{served.url}/v1/search", json={"question": "?"}, **LOOPBACK)

    assert found["hits"][0]["document_id"] == "a1.md"
    assert explained.is_success, explained.text
    assert "in sync" in explained.text
    assert anonymous.status_code == 401


def test_no_query_is_lost_over_helm_upgrade(served: Served) -> None:
    before = {pod.name for pod in served.pods()}

    with served.asked() as load:
        served.installed.upgrade(settings={"serve_log_questions": True})

    assert len(served.pods()) == 2
    assert before.isdisjoint(pod.name for pod in served.pods())
    nothing_lost(load)


def test_no_query_is_lost_over_a_rollout(served: Served) -> None:
    before = {pod.name for pod in served.pods()}

    with served.asked() as load:
        served.installed.cluster.restart(SERVICE)
        served.installed.await_rollout(SERVICE)
        awaited(lambda: gone(served, before), "the old pods to be gone")

    nothing_lost(load)


@pytest.mark.parametrize("how", ["evicted", "signalled"])
def test_no_query_is_lost_with_a_pod_that_is_ended(served: Served, how: str) -> None:
    pod, _ = served.pods()
    process = pod.processes["search-service"]
    cluster = served.installed.cluster

    with served.asked() as load:
        if how == "evicted":
            cluster.delete(pod)
        else:  # a container's process ends, and is started again in the same pod
            cluster.signal(pod, signal.SIGTERM)
        awaited(lambda: process.poll() is not None, "the process to end")
        served.installed.await_rollout(SERVICE)

    nothing_lost(load)


def test_no_query_is_lost_or_mixed_while_another_model_takes_over(served: Served) -> None:
    installed = served.installed
    installed.register(NEW)
    installed.await_convergence()
    installed.await_idle()

    def promoted() -> bool:
        """Promote; that is refused as long as the candidate is still being filled."""
        run = installed.launch(
            Job.PROMOTE, {"ops": {Asset.LIVE_ALIAS: {"config": {"model": NEW, "by": "tester"}}}}
        )
        return bool(installed.await_run(run).is_success)

    with served.asked() as load:
        awaited(promoted, "the promotion")
        awaited(lambda: answered_by(load.answers[-20:], ENCODERS) == [NEW] * 20, "the new model")

    nothing_lost(load, (OLD, NEW))


def test_a_pod_is_ready_only_when_its_encoder_has_encoded(served: Served) -> None:
    """The live model is on the embedding server now, which can hold a new pod's first question."""
    installed, before = served.installed, {pod.name for pod in served.pods()}
    installed.embeddings.hold("warm-up", NEW)

    with served.asked() as load:
        installed.cluster.restart(SERVICE)
        awaited(lambda: installed.embeddings.holding("warm-up", NEW), "a pod to warm up")
        [new] = [pod for pod in served.pods() if pod.name not in before]
        awaited(lambda: asked_directly(new, "/healthz") == 200, "it to be alive")
        assert asked_directly(new, "/readyz") == 503
        assert not new.ready
        assert before <= {pod.name for pod in served.pods()}  # none goes before it is ready
        installed.embeddings.release("warm-up", NEW)
        installed.await_rollout(SERVICE)

    nothing_lost(load, (NEW,))


def test_a_pod_that_is_killed_takes_no_more_than_its_own_requests_with_it(served: Served) -> None:
    """SIGKILL leaves no time to drain: until nodes know of it, connections are refused."""
    pod, _ = served.pods()

    with served.asked() as load:
        served.installed.cluster.kill(pod, "OOMKilled")
        awaited(lambda: not pod.ready, "the kubelet to notice")
        served.installed.await_rollout(SERVICE)
        noticed = len(load.answers)

    lost = [answer for answer in load.answers if answer.error]
    answered = [answer for answer in load.answers if not answer.error]
    assert [answer.error for answer in load.answers[noticed:] if answer.error] == []
    assert not [answer for answer in lost if "HTTPStatusError" in answer.error]
    assert set(answered_by(answered, ENCODERS)) == {NEW}


def gone(served: Served, names: set[str]) -> bool:
    return not names & {pod["metadata"]["name"] for pod in _listed(served)}


def _listed(served: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.installed.cluster.listing("Pod", {})["items"]
    return found


def asked_directly(pod: Pod, path: str) -> int:
    [port] = pod.spec["containers"][0]["ports"]
    try:
        return httpx2.get(f"http://127.0.0.1:{port['containerPort']}{path}", **LOOPBACK).status_code
    except httpx2.TransportError:
        return 0
