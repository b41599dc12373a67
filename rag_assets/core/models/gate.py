"""What a model must prove before queries are answered from it (design I9).

Each rule turns what was measured into a finding: passed or not, with the evidence for people and
the figures to plot. Measuring is `assets/promotion_gate.py`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil, isnan

from rag_assets.core.models.retrieval import Scores

SAME = 0.999  # cosine between a stored vector and the same text embedded now; fp16 keeps this
PERCENTILE = 0.95


class Rule(StrEnum):
    """The rules, in the order in which they are judged."""

    SIGNATURE = "signature"
    INDEX = "index"
    COMPLETE = "complete"
    VECTORS = "vectors"
    REPRODUCIBLE = "reproducible"
    RETRIEVAL = "retrieval"
    LATENCY = "latency"


RULES = {
    Rule.SIGNATURE: "The collection was filled by the spec that the models file has now.",
    Rule.INDEX: "The index is finished and loaded, with no rows pending.",
    Rule.COMPLETE: "In every shard the rows are exactly the chunks, by digest.",
    Rule.VECTORS: "Every vector is finite, of the right length, and the one in the lake.",
    Rule.REPRODUCIBLE: "Sampled rows have the vectors that the model gives their texts now.",
    Rule.RETRIEVAL: "Recall@10, nDCG@10 and MRR@10 on labelled queries are not below the live"
    " model's by more than the margin; on known-item queries, recall@10 is not.",
    Rule.LATENCY: "Queries are not slower than the live model's by more than the set factor.",
}
"""What each rule demands, for people."""


class QueryKind(StrEnum):
    """Where the queries come from that a model is judged by."""

    LABELLED = "labelled"  # the user's, with the documents that answer them
    KNOWN_ITEM = "known-item"  # sentences of the corpus


INTEGRITY = (Rule.SIGNATURE, Rule.INDEX, Rule.COMPLETE, Rule.VECTORS)
"""The rules of a rollback: data as it must be, whatever the model that is left is better at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a rule."""

    rule: Rule
    passed: bool
    evidence: str
    metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        return f"{self.rule}: {self.evidence}"


@dataclass(frozen=True, slots=True)
class VectorFaults:
    """Faults of a collection's vectors: counts, and the first chunk that has one."""

    rows: int = 0
    not_finite: int = 0
    wrong_length: int = 0
    other: int = 0
    first: str = ""

    def __add__(self, more: "VectorFaults") -> "VectorFaults":
        return VectorFaults(
            self.rows + more.rows,
            self.not_finite + more.not_finite,
            self.wrong_length + more.wrong_length,
            self.other + more.other,
            self.first or more.first,
        )


def evaluate_vectors(faults: VectorFaults) -> Finding:
    """Judge the vectors of all rows."""
    bad = {
        "not finite": faults.not_finite,
        "not of length one": faults.wrong_length,
        "other than in the lake": faults.other,
    }
    message = [f"{count} {what}" for what, count in bad.items() if count]
    evidence = f"{faults.rows} vectors, all as they should be"
    if message:
        evidence = f"of {faults.rows} vectors {', '.join(message)}; the first is of {faults.first}"
    return Finding(
        Rule.VECTORS, not message, evidence, {k.replace(" ", "_"): v for k, v in bad.items()}
    )


def evaluate_reproduction(similarities: Sequence[float]) -> Finding:
    """Judge the cosines between stored vectors and those of the same texts embedded now."""
    worst = min(similarities, key=lambda cosine: -2 if isnan(cosine) else cosine, default=1.0)
    return Finding(
        Rule.REPRODUCIBLE,
        worst >= SAME,  # false of NaN
        f"{len(similarities)} sampled texts embedded again: the worst cosine with the stored vector"
        f" is {worst:.4f}, and {SAME} is asked for",
        {"sampled": len(similarities), "worst_cosine": worst},
    )


def evaluate_retrieval(
    candidate: Scores, live: Scores | None, margin: float, kind: QueryKind
) -> Finding:
    """Judge how well a model finds, against the live one.

    A known item is asked for in its own words, which favours a model that matches words: that it
    is found says that the index works, and its rank says little of how good a model is.

    Args:
        candidate: The model to promote.
        live: The live model on the same queries; None if nothing is live.
        margin: How much lower each score may be, from 0 to 1.
        kind: Of the queries.
    """
    names = ("recall", "ndcg", "mrr")
    evaluated = names if kind is QueryKind.LABELLED else names[:1]
    metrics = {f"{name}_at_10": getattr(candidate, name) for name in names}
    if live is None:
        shown = ", ".join(f"{name} {getattr(candidate, name):.3f}" for name in names)
        evidence = f"{candidate.queries} {kind} queries: {shown}; nothing is live to compare with"
        return Finding(Rule.RETRIEVAL, True, evidence, metrics)
    metrics |= {f"live_{name}_at_10": getattr(live, name) for name in names}
    worse = [name for name in evaluated if getattr(candidate, name) < getattr(live, name) - margin]
    shown = ", ".join(
        f"{name} {getattr(candidate, name):.3f} against {getattr(live, name):.3f}" for name in names
    )
    evidence = f"{candidate.queries} {kind} queries: {shown}; margin {margin:g}"
    if worse:
        evidence += f"; below it: {', '.join(worse)}"
    return Finding(Rule.RETRIEVAL, not worse, evidence, metrics)


def evaluate_latency(
    candidate: Sequence[float], live: Sequence[float], factor: float, allowance: float
) -> Finding:
    """Judge the seconds of whole queries, from question to hits, against the live model's.

    Args:
        candidate: Of the model to promote.
        live: Of the live model on the same queries, asked in turn; empty if nothing is live.
        factor: How many times the live model's 95th percentile is fine.
        allowance: Seconds that are fine whatever the live model takes.
    """
    mine = percentile(candidate)
    metrics = {"p95_seconds": mine}
    if not live:
        evidence = f"p95 {mine * 1000:.0f} ms; nothing is live to compare with"
        return Finding(Rule.LATENCY, True, evidence, metrics)
    other = percentile(live)
    bound = max(factor * other, allowance)
    evidence = (
        f"p95 {mine * 1000:.0f} ms against {other * 1000:.0f} ms; up to {bound * 1000:.0f} ms is"
        f" fine (the larger of {factor:g} times and {allowance:g} s)"
    )
    return Finding(Rule.LATENCY, mine <= bound, evidence, metrics | {"live_p95_seconds": other})


def percentile(values: Sequence[float], share: float = PERCENTILE) -> float:
    """Return the smallest value that at least this share of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else 0.0
