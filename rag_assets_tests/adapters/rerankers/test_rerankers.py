"""One contract for every reranker: the real architectures, and servers of each dialect."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.adapters.rerankers.reranker import Reranker, load_reranker
from rag_assets.core.errors import RerankError
from rag_assets.core.models.reranker_spec import RerankerSpec
from rag_assets_tests.support.reranking_server import reranking_server

QUESTION = "When is the kiln fired?"
TEXTS = [
    "A kiln is fired on Fridays.",
    "Snow",
    "",
    "The fourth text is the longest of them all, which puts it first among those to be computed.",
    "Snow falls on the kiln.",
]


BACKENDS = (  # what torch is loaded for is marked slow by its name
    *("flag_embedding-bert", "flag_embedding-xlm-roberta", "flag_embedding-qwen2"),
    *("tei", "vllm", "infinity"),
)


@pytest.fixture(params=BACKENDS)
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RerankerSpec]:
    backend, _, kind = request.param.partition("-")
    if kind:
        from rag_assets_tests.support.tiny_rerankers import (  # noqa: PLC0415 - loads torch
            tiny_reranker,
        )

        yield tiny_reranker(tmp_path, kind, max_tokens=64)
        return
    with reranking_server(backend) as server:
        yield RerankerSpec(key="on-server", backend=server.backend, name="m", endpoint=server.url)


def changed(spec: RerankerSpec, **fields: Any) -> Reranker:
    return load_reranker(spec.model_copy(update=fields))


def test_each_text_gets_its_score_in_its_place(spec: RerankerSpec) -> None:
    reranker = load_reranker(spec)

    scores = reranker.scores(QUESTION, TEXTS)

    assert scores.dtype == np.float32
    assert scores.shape == (5,)
    assert ((scores > 0) & (scores < 1)).all()
    assert np.diff(np.sort(scores)).min() > 1e-3
    for text, score in zip(TEXTS, scores, strict=True):
        assert reranker.scores(QUESTION, [text]) == pytest.approx([score], abs=1e-5)
    assert reranker.scores(QUESTION, TEXTS[::-1]) == pytest.approx(scores[::-1], abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 5, 32])
def test_scores_do_not_depend_on_the_size_of_batches(spec: RerankerSpec, size: int) -> None:
    straight = load_reranker(spec).scores(QUESTION, TEXTS)

    assert changed(spec, batch_size=size).scores(QUESTION, TEXTS) == pytest.approx(
        straight, abs=1e-5
    )


def test_several_questions_are_scored_together_as_they_would_be_alone(spec: RerankerSpec) -> None:
    reranker = changed(spec, batch_size=2)
    questions = [QUESTION, "Where is snow?", QUESTION]
    pairs = [(question, text) for text in TEXTS for question in questions]

    together = reranker.score_pairs(pairs).reshape(5, 3)

    for place, question in enumerate(questions):
        assert together[:, place] == pytest.approx(reranker.scores(question, TEXTS), abs=1e-5)
    assert np.abs(together[:, 0] - together[:, 1]).min() > 1e-4


def test_no_texts_give_no_scores(spec: RerankerSpec) -> None:
    assert load_reranker(spec).scores(QUESTION, []).shape == (0,)


def test_the_question_gets_its_prefix(spec: RerankerSpec) -> None:
    prefixed = changed(spec, query_prefix="query: ").scores(QUESTION, TEXTS)

    assert prefixed == pytest.approx(
        load_reranker(spec).scores(f"query: {QUESTION}", TEXTS), abs=1e-5
    )


def test_threads_do_not_disturb_each_other(spec: RerankerSpec) -> None:
    reranker = load_reranker(spec)
    questions = [f"Question {number}?" for number in range(8)]
    straight = [reranker.scores(question, TEXTS) for question in questions]

    with ThreadPoolExecutor(8) as threads:
        scores = list(threads.map(lambda question: reranker.scores(question, TEXTS), questions))

    assert np.array(scores) == pytest.approx(np.array(straight), abs=1e-5)


@pytest.mark.parametrize(
    "invalid", [[0.1], [0.1, 0.2, 0.3], [[0.1], [0.2]], [0.1, np.nan], [0, 1e39]]
)
def test_invalid_scores_are_refused(invalid: list[Any]) -> None:
    class Broken:
        def score_pairs(self, _: list[tuple[str, str]]) -> Any:
            return np.array(invalid)

    spec = RerankerSpec(key="broken-v1", backend="tei", name="m", endpoint="http://h")

    with pytest.raises(RerankError, match=r"broken-v1 returned \d finite scores.* for 2 pairs"):
        Reranker(spec, Broken()).scores(QUESTION, TEXTS[:2])
