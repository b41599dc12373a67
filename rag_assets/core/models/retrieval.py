"""Metrics of retrieval quality, and known-item queries for where there are no labelled ones."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log2

CUTOFF = 10  # results that count
KNOWN_ITEM_WORDS = 20


def ndcg(ranking: Sequence[str], relevance: Mapping[str, float]) -> float:
    """Normalised discounted cumulative gain of the first 10 results, from 0 to 1.

    DCG@10 = sum over ranks i = 1…10 of rel_i / log2(i + 1), divided by that of the ideal
    ranking (Järvelin and Kekäläinen 2002; linear gain, as trec_eval's ndcg_cut).

    Args:
        ranking: Document ids, best first, each once.
        relevance: Document id → gain; other documents are irrelevant.

    Returns:
        0.0 if no document is relevant.
    """
    ideal = _dcg(sorted(relevance.values(), reverse=True)[:CUTOFF])
    return _dcg([relevance.get(name, 0.0) for name in ranking[:CUTOFF]]) / ideal if ideal else 0.0


def recall(ranking: Sequence[str], relevance: Mapping[str, float]) -> float:
    """Return the share of relevant documents that are among the first 10, from 0 to 1."""
    relevant = {name for name, gain in relevance.items() if gain > 0}
    return len(relevant.intersection(ranking[:CUTOFF])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Sequence[str], relevance: Mapping[str, float]) -> float:
    """Return 1 / rank of the first relevant document among the first 10, or 0."""
    ranks = (rank for rank, name in enumerate(ranking[:CUTOFF], 1) if relevance.get(name, 0.0) > 0)
    return 1 / next(ranks, float("inf"))


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A question, and the gain (above 0) of each document that answers it."""

    question: str
    relevance: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over queries, at a cut-off of 10 documents, from 0 to 1."""

    recall: float
    ndcg: float
    mrr: float
    queries: int


def mean_scores(queries: Sequence[LabelledQuery], rankings: Sequence[Sequence[str]]) -> Scores:
    """Score one ranking per query; each lists documents best first and without repeats."""
    evaluated = list(zip(rankings, (query.relevance for query in queries), strict=True))
    count = max(1, len(evaluated))
    return Scores(
        recall=sum(recall(*pair) for pair in evaluated) / count,
        ndcg=sum(ndcg(*pair) for pair in evaluated) / count,
        mrr=sum(reciprocal_rank(*pair) for pair in evaluated) / count,
        queries=len(evaluated),
    )


def known_item(text: str) -> str:
    """Return a question whose answer is known to be this text: its longest sentence, shortened.

    Stands in for labelled queries where there are none: a retriever that does not find a text by
    its own words will find little else. Headings are skipped, unless there is nothing else.
    """
    lines = text.splitlines()
    prose = [line for line in lines if not line.lstrip().startswith("#")]
    if not "".join(prose).strip():
        prose = [line.lstrip().lstrip("#") for line in lines]
    sentences = re.split(r"(?<=[.!?])\s+", " ".join(" ".join(prose).split()))
    return " ".join(max(sentences, key=len).split()[:KNOWN_ITEM_WORDS])


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))
