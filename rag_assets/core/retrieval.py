"""How good a ranking is, judged by labels."""

from collections.abc import Mapping, Sequence
from math import log2


def ndcg(ranking: Sequence[str], relevance: Mapping[str, float], k: int = 10) -> float:
    """Normalised discounted cumulative gain of the first k results, from 0 to 1.

    DCG@k = sum over ranks i = 1…k of rel_i / log2(i + 1), divided by that of the ideal
    ranking (Järvelin and Kekäläinen 2002; linear gain, as trec_eval's ndcg_cut).

    Args:
        ranking: Document ids, best first, each once.
        relevance: Document id → gain; absent ids are irrelevant.
        k: Cut-off.

    Returns:
        0.0 where no document is relevant.
    """
    ideal = _dcg(sorted(relevance.values(), reverse=True)[:k])
    return _dcg([relevance.get(name, 0.0) for name in ranking[:k]]) / ideal if ideal else 0.0


def recall(ranking: Sequence[str], relevance: Mapping[str, float], k: int = 10) -> float:
    """Share of the relevant documents among the first k results, from 0 to 1."""
    relevant = {name for name, gain in relevance.items() if gain > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))
