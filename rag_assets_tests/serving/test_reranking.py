"""The second stage: another order, or in time the first stage's, and which of both is told."""

import threading
from collections.abc import Iterator, Sequence

import pytest

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.core.errors import ConfigurationError, RerankUnavailableError, SearchError
from rag_assets.serving.reranking import Reranking
from rag_assets.serving.stages import Stages
from rag_assets_tests.serving.test_arrangement import hit

HITS = [hit(0, "short"), hit(1, "longest of all"), hit(2, "medium one")]
PATIENCE = 30.0


class ByLength:
    """Scores texts by their length; waits, or fails, if it is told to."""

    def __init__(self) -> None:
        self.questions: list[str] = []
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.error: Exception | None = None

    def scores(self, question: str, texts: Sequence[str]) -> list[float]:
        self.questions.append(question)
        self.begun.set()
        assert self.go_on.wait(PATIENCE)
        if self.error:
            raise self.error
        return [len(text) / 100 for text in texts]


class Noted(Stages):
    def __init__(self) -> None:
        self.reasons: list[str] = []

    def fell_back(self, reason: str) -> None:
        self.reasons.append(reason)


@pytest.fixture
def model() -> ByLength:
    return ByLength()


@pytest.fixture
def noted() -> Noted:
    return Noted()


@pytest.fixture
def reranking(model: ByLength, noted: Noted) -> Iterator[Reranking]:
    created = Reranking(lambda: model, seconds=PATIENCE, stages=noted)  # type: ignore[arg-type,return-value]
    yield created
    model.go_on.set()
    created.close()


def ordinals(hits: list[Hit]) -> list[int]:
    return [one.ordinal for one in hits]


def test_hits_are_ordered_by_the_rerankers_scores_and_keep_their_own(reranking: Reranking) -> None:
    hits, reranked = reranking("question", HITS)

    assert (ordinals(hits), reranked) == ([1, 2, 0], True)
    assert [one.rerank_score for one in hits] == [0.14, 0.1, 0.05]
    assert hits[0].score == HITS[1].score


def test_one_that_takes_too_long_leaves_the_order_and_its_queue_is_not_worked_off(
    model: ByLength, noted: Noted
) -> None:
    reranking = Reranking(lambda: model, seconds=0.05, stages=noted)  # type: ignore[arg-type,return-value]
    reranking.warm_up()
    model.go_on.clear()
    model.questions.clear()
    try:
        answers = [reranking(f"question {number}", HITS) for number in range(3)]
    finally:
        model.go_on.set()

    assert answers == [(HITS, False)] * 3
    assert noted.reasons == ["timeout"] * 3
    reranking._threads.shutdown(wait=True)
    assert model.questions == ["question 0"]  # the others were cancelled before they began


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RerankUnavailableError("down"), "unavailable"), (ValueError("Ann's contract"), "error")],
)
def test_one_that_fails_leaves_the_order_and_nothing_of_a_document_in_the_log(
    reranking: Reranking,
    model: ByLength,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    reason: str,
) -> None:
    noted = reranking._stages
    assert isinstance(noted, Noted)
    model.error = error

    assert reranking("question", HITS) == (HITS, False)
    assert noted.reasons == [reason]
    assert type(error).__name__ in caplog.text
    assert "Ann" not in caplog.text


def test_one_that_could_not_be_loaded_is_loaded_by_the_next_search(
    model: ByLength, noted: Noted
) -> None:
    failures = [ConfigurationError("no weights")]

    def load() -> ByLength:
        if failures:
            raise failures.pop()
        return model

    reranking = Reranking(load, seconds=PATIENCE, stages=noted)  # type: ignore[arg-type]
    try:
        assert reranking("question", HITS) == (HITS, False)
        assert reranking("question", HITS)[1]
    finally:
        reranking.close()
    assert noted.reasons == ["error"]


def test_getting_ready_fails_with_a_wrong_reranker_but_not_with_one_that_is_down(
    reranking: Reranking, model: ByLength
) -> None:
    model.error = RerankUnavailableError("down")
    reranking.warm_up()

    model.error = ConfigurationError("another model")
    with pytest.raises(ConfigurationError, match="another model"):
        reranking.warm_up()


def test_what_a_question_says_is_done_if_it_can_be(reranking: Reranking) -> None:
    assert reranking.wanted(None)
    assert reranking.wanted(True)
    assert not reranking.wanted(False)
    none = Reranking()
    assert not none.wanted(None)
    with pytest.raises(SearchError, match="RAG_ASSETS_RERANKER"):
        none.wanted(True)


def test_no_hits_are_not_reranked(reranking: Reranking, model: ByLength) -> None:
    assert reranking("question", []) == ([], False)
    assert model.questions == []
