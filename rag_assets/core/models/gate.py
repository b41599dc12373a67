"""The promotion gate: the rules that a model must pass before it goes live (design I9).

What belongs here: each rule as a function from measurements to a finding, which has the verdict,
the evidence for people and the metrics to plot. What does not: taking the measurements, which is
up to `models/gate.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from math import ceil, isnan

from rag_assets.core.models.retrieval import Scores

SAME = 0.999  # minimum cosine of a stored vector and a fresh one of the same text; fp16 meets it


class Rule(StrEnum):
    """The rules, in the order of evaluation."""

    SIGNATURE = "signature"
    INDEX = "index"
    COMPLETE = "complete"
    VECTORS = "vectors"
    REPRODUCIBLE = "reproducible"
    RETRIEVAL = "retrieval"
    LATENCY = "latency"


RULES = {
    Rule.SIGNATURE: "The collection was built with the spec that is now in the models file.",
    Rule.INDEX: "The index is complete and loaded, with no rows pending.",
    Rule.COMPLETE: "In every shard, the rows match the chunks exactly, by digest.",
    Rule.VECTORS: "Every vector is finite, of the right length, and equal to the one in the lake.",
    Rule.REPRODUCIBLE: "Embedding sampled texts again gives the stored vectors.",
    Rule.RETRIEVAL: "Recall@10, nDCG@10 and MRR@10 on labelled queries (on known-item queries, only"
    " recall@10) are not below the live model's by more than the margin.",
    Rule.LATENCY: "Query latency (p95) is at most the configured multiple of the live model's.",
}
"""What each rule requires, for display."""


class QueryKind(StrEnum):
    """The origin of the queries that a model is evaluated on."""

    LABELLED = "labelled"  # provided by users, with the documents that answer them
    KNOWN_ITEM = "known-item"  # generated: sentences of the corpus


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of evaluating a rule."""

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
    """Numbers of faulty vectors in a collection, and the first chunk that has one."""

    rows: int = 0
    not_finite: int = 0
    wrong_length: int = 0
    other: int = 0
    first: str = ""

    def __add__(self, other: "VectorFaults") -> "VectorFaults":
        return VectorFaults(
            self.rows + other.rows,
            self.not_finite + other.not_finite,
            self.wrong_length + other.wrong_length,
            self.other + other.other,
            self.first or other.first,
        )


@dataclass(frozen=True, slots=True)
class Staleness:
    """Which changes have not reached a collection yet.

    Attributes:
        shards: Number of shards that are not in sync.
        documents: Number of documents in them that were added, changed or deleted since.
        seconds: Age of the oldest of these changes; deletions, whose time is unknown, excluded.
    """

    shards: int
    documents: int
    seconds: float

    @property
    def sentence(self) -> str:
        """The staleness in words."""
        if not self.shards:
            return "every change has reached it"
        return (
            f"changes of {self.documents} documents in {self.shards} shards have not reached it,"
            f" the oldest {self.seconds:.0f} s old; the stream runs bring them"
        )


def no_evidence(rule: Rule, missing: str) -> Finding:
    """Return the finding of a rule that had nothing to measure, which is never a pass."""
    return Finding(rule, False, f"nothing to evaluate: {missing}")


def nothing_wrong(finding: Finding) -> Finding:
    """Return a finding without evidence as a check reports it: an empty index is not a fault."""
    return replace(finding, passed=True)


def evaluate_rows(
    rows: int, incomplete: Sequence[str], shards: int, *, changed: int = 0
) -> Finding:
    """Evaluate whether the rows of all shards are exactly their chunks.

    Args:
        rows: Rows of the shards that are complete.
        incomplete: The problem of each shard that is not.
        shards: Number of shards.
        changed: Rows of complete shards that changed during the evaluation and are on their way.
    """
    metrics = {"rows": rows, "incomplete_shards": len(incomplete)}
    if incomplete:
        evidence = f"{'; '.join(incomplete)}. Materialise these shards, in the order of the flow"
        return Finding(Rule.COMPLETE, False, evidence, metrics)
    if not rows:
        return no_evidence(Rule.COMPLETE, "no document has any text yet, so there are no rows")
    evidence = f"{rows} rows in {shards} shards are exactly the chunks"
    if changed:
        evidence += f", but for {changed} that changed"
    return Finding(Rule.COMPLETE, True, evidence, metrics)


def evaluate_vectors(faults: VectorFaults) -> Finding:
    """Evaluate the vectors of all rows."""
    if not faults.rows:
        return no_evidence(Rule.VECTORS, "the collection has no row whose vector is also known")
    bad = {
        "not finite": faults.not_finite,
        "not of length one": faults.wrong_length,
        "other than in the lake": faults.other,
    }
    found = [f"{count} {fault}" for fault, count in bad.items() if count]
    evidence = f"{faults.rows} vectors, all valid"
    if found:
        evidence = (
            f"{faults.rows} vectors, of which {', '.join(found)}; the first is of {faults.first}"
        )
    return Finding(
        Rule.VECTORS, not found, evidence, {k.replace(" ", "_"): v for k, v in bad.items()}
    )


def evaluate_reproduction(similarities: Sequence[float]) -> Finding:
    """Evaluate the cosines of stored vectors and fresh ones of the same texts."""
    if not similarities:
        return no_evidence(Rule.REPRODUCIBLE, "no text was sampled")
    worst = min(similarities, key=lambda cosine: -2 if isnan(cosine) else cosine)
    return Finding(
        Rule.REPRODUCIBLE,
        worst >= SAME,  # False for NaN
        f"{len(similarities)} sampled texts embedded again: the lowest cosine with the stored"
        f" vector is {worst:.4f}; the minimum is {SAME}",
        {"sampled": len(similarities), "worst_cosine": worst},
    )


def evaluate_retrieval(
    candidate: Scores, live: Scores | None, margin: float, kind: QueryKind
) -> Finding:
    """Evaluate a model's retrieval quality against the live model's.

    A known-item query uses the words of its target, which favours a model that matches words.
    Finding the target shows that the index works; its rank is not a measure of quality, so only
    recall counts for these queries.

    Args:
        candidate: Scores of the model to promote.
        live: Scores of the live model on the same queries; None if no model is live.
        margin: How much lower each score may be, from 0 to 1.
        kind: The origin of the queries.
    """
    if not candidate.queries:
        return no_evidence(Rule.RETRIEVAL, f"there are no {kind} queries")
    names = ("recall", "ndcg", "mrr")
    evaluated = names if kind is QueryKind.LABELLED else names[:1]
    metrics = {f"{name}_at_10": getattr(candidate, name) for name in names}
    if not candidate.recall:
        evidence = (
            f"none of {candidate.queries} {kind} queries finds its document, so nothing shows that"
            " the collection can be searched. Check the queries, then the model"
        )
        return Finding(Rule.RETRIEVAL, False, evidence, metrics)
    if live is None:
        shown = ", ".join(f"{name} {getattr(candidate, name):.3f}" for name in names)
        evidence = f"{candidate.queries} {kind} queries: {shown}; no live model to compare with"
        return Finding(Rule.RETRIEVAL, True, evidence, metrics)
    metrics |= {f"live_{name}_at_10": getattr(live, name) for name in names}
    worse = [name for name in evaluated if getattr(candidate, name) < getattr(live, name) - margin]
    shown = ", ".join(
        f"{name} {getattr(candidate, name):.3f} against {getattr(live, name):.3f}" for name in names
    )
    evidence = f"{candidate.queries} {kind} queries: {shown}; margin {margin:g}"
    if worse:
        evidence += f"; exceeded by {', '.join(worse)}"
    return Finding(Rule.RETRIEVAL, not worse, evidence, metrics)


def evaluate_latency(
    candidate: Sequence[float], live: Sequence[float], factor: float, allowance: float
) -> Finding:
    """Evaluate the latency of whole queries, from question to hits, against the live model's.

    Args:
        candidate: Seconds per query of the model to promote.
        live: Seconds per query of the live model on the same queries, measured alternately; empty
            if no model is live.
        factor: Maximum ratio of the two 95th percentiles.
        allowance: Seconds that are always acceptable, whatever the live model takes.
    """
    if not candidate:
        return no_evidence(Rule.LATENCY, "no query was timed")
    p95 = percentile_95(candidate)
    metrics = {"p95_seconds": p95}
    if not live:
        evidence = f"p95 {p95 * 1000:.0f} ms; no live model to compare with"
        return Finding(Rule.LATENCY, True, evidence, metrics)
    live_p95 = percentile_95(live)
    limit = max(factor * live_p95, allowance)
    evidence = (
        f"p95 {p95 * 1000:.0f} ms against {live_p95 * 1000:.0f} ms; the limit is"
        f" {limit * 1000:.0f} ms (the larger of {factor:g} times the live model's and"
        f" {allowance:g} s)"
    )
    return Finding(Rule.LATENCY, p95 <= limit, evidence, metrics | {"live_p95_seconds": live_p95})


def percentile_95(values: Sequence[float]) -> float:
    """Return the smallest value that at least 95% of the values do not exceed; 0 if none."""
    ordered = sorted(values)
    return ordered[ceil(0.95 * len(ordered)) - 1] if ordered else 0.0
