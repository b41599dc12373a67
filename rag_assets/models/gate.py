"""The gate: measures what a model must prove before it goes live.

What belongs here: measurements on collections and models. What does not: whether a measurement
passes (`core/models/gate.py`), and what follows from it (`promotion.py`).
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.adapters.waiting import logged_wait
from rag_assets.adapters.yaml_files import read_queries
from rag_assets.core.errors import CommitConflictError, SupersededInputError
from rag_assets.core.identity import digest
from rag_assets.core.models.gate import (
    Finding,
    QueryKind,
    Rule,
    VectorFaults,
    evaluate_latency,
    evaluate_reproduction,
    evaluate_retrieval,
    evaluate_rows,
    evaluate_vectors,
)
from rag_assets.core.models.retrieval import LabelledQuery, Scores, known_item, mean_scores
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.models.vectors import UNIT_LENGTH_TOLERANCE, Vectors
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS, empty
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.index import Index
from rag_assets.serving.searcher import search_collection

logger = logging.getLogger(__name__)

SEARCH_LIMIT = 100  # chunks per query, enough to yield ten documents
POLL_SECONDS = 0.5
VECTORS_PER_READ = 10_000
STORED_TOLERANCE = 1e-5  # between a vector in Milvus and in the lake; both are float32


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """The gate's thresholds and sample sizes.

    Attributes:
        margin: Maximum amount by which a retrieval score may be below the live model's.
        latency_factor: Maximum query latency (p95), as a multiple of the live model's.
        latency_seconds: Query latency (p95) that always passes.
        sampled_chunks: Number of chunks embedded again.
        queries: Number of known-item queries, used if there is no file of labelled queries.
        timed_queries: Number of queries timed.
        wait_seconds: Maximum wait for rows that are being written, anew whenever some arrive.
        queries_file: Labelled queries, or None.
    """

    margin: float
    latency_factor: float
    latency_seconds: float
    sampled_chunks: int
    queries: int
    timed_queries: int
    wait_seconds: float
    queries_file: Path | None


@dataclass(frozen=True)
class Gate:
    """The evaluation of one model; `live` is None if nothing is live or this model is."""

    target: ModelCollection
    live: ModelCollection | None
    policy: GatePolicy

    @property
    def index(self) -> Index:
        """The index that the collections belong to."""
        return self.target.index

    def evaluate(self, rules: Sequence[Rule]) -> list[Finding]:
        """Evaluate rules, in the order of `Rule`.

        A rule that cannot be evaluated, because the collection was built from another spec or
        cannot be read, fails.

        Raises:
            ConfigurationError: The model cannot be loaded, or the file of queries is invalid.
            VectorStoreError: Milvus is unreachable.
        """
        findings: list[Finding] = []
        for rule in Rule:
            if rule in rules:
                findings.append(self._evaluate(rule, findings))
                logger.info("%s: %s", self.target.spec.key, findings[-1].sentence)
        return findings

    def _evaluate(self, rule: Rule, before: Sequence[Finding]) -> Finding:
        basic = [f.rule for f in before if not f.passed and f.rule in (Rule.SIGNATURE, Rule.INDEX)]
        if basic:
            return Finding(rule, False, f"not evaluated, because {basic[0]} failed")
        evaluators = {
            Rule.SIGNATURE: self._signature,
            Rule.INDEX: self._index,
            Rule.COMPLETE: self._complete,
            Rule.VECTORS: self._vectors,
            Rule.REPRODUCIBLE: self._reproducible,
            Rule.RETRIEVAL: self._retrieval,
            Rule.LATENCY: self._latency,
        }
        return evaluators[rule]()

    def _signature(self) -> Finding:
        target = self.target
        if not target.exists:
            evidence = f"there is no collection {target.name}; build the model first"
            return Finding(Rule.SIGNATURE, False, evidence)
        actual = target.index.store.info(target.name).properties.get("signature", "none")
        desired = target.spec.signature
        evidence = f"the collection has {actual}, the spec {desired}"
        return Finding(Rule.SIGNATURE, actual == desired, evidence)

    def _index(self) -> Finding:
        if self.target.filling:
            evidence = "the collection is not indexed yet: its shards are still being filled"
            return Finding(Rule.INDEX, False, evidence)
        with logged_wait(logger, f"index of {self.target.name}"):
            for _ in self._attempts():
                info = self.target.index.store.info(self.target.name)
                passed = info.indexed and info.loaded and not info.pending
                if passed:
                    break
        evidence = (
            f"index {'finished' if info.indexed else 'not finished'}, {info.pending} rows"
            f" pending, {'loaded' if info.loaded else 'not loaded'}"
        )
        return Finding(Rule.INDEX, passed, evidence, {"pending_rows": info.pending})

    def _complete(self) -> Finding:
        """Check that every row is in sync at some moment, as documents change meanwhile.

        This is not required of a whole shard: while its documents change faster than runs follow,
        there is no such moment. It ends, since rows that are behind only become fewer.
        """
        states = {shard: _completeness(self.target, shard) for shard in self.index.shards}
        waiting_for, until = "", 0.0
        with logged_wait(logger, f"rows of {self.target.name}"):
            while awaited := {shard: state for shard, state in states.items() if state.transient}:
                problems = "; ".join(state.problem for state in awaited.values())
                if problems != waiting_for:  # at first, and whenever some rows have arrived
                    waiting_for, until = problems, time.monotonic() + self.policy.wait_seconds
                    logger.info("Rows that runs are to write are waited for: %s", problems)
                if time.monotonic() >= until:
                    break
                time.sleep(POLL_SECONDS)
                for shard, before in awaited.items():
                    states[shard] = _completeness(self.target, shard, before.behind)
        complete = [state for state in states.values() if not state.problem]
        return evaluate_rows(
            sum(state.rows for state in complete),
            [state.problem for state in states.values() if state.problem],
            len(states),
            changed=sum(state.changed for state in complete),
        )

    def _vectors(self) -> Finding:
        target = self.target
        actual, desired = target.index.store.info(target.name).dimension, target.spec.dimension
        if actual != desired:
            evidence = f"vectors have {actual} dimensions, the spec {desired}"
            return Finding(Rule.VECTORS, False, evidence)
        faults = (vector_faults(target, shard) for shard in self.index.shards)
        return evaluate_vectors(sum(faults, VectorFaults()))

    def _reproducible(self) -> Finding:
        sample = self._sample.head(self.policy.sampled_chunks)
        ids = sample["chunk_id"].to_list()
        stored = self.target.index.store.vectors(self.target.name, ids)
        model = self.index.load(self.target.spec)
        computed = model.encode_passages(sample["text"].to_list(), ids).dense
        pairs = zip(ids, computed, strict=True)
        return evaluate_reproduction(
            [_cosine(stored[key], vector) for key, vector in pairs if key in stored]
        )

    def _retrieval(self) -> Finding:
        kind = self._queries[1]
        own, live = self._scores(self.target), self._scores(self.live) if self.live else None
        return evaluate_retrieval(own, live, self.policy.margin, kind)

    def _latency(self) -> Finding:
        """Time whole queries, alternating between the models; the first of each is a warm-up."""
        questions = [query.question for query in self._queries[0][: self.policy.timed_queries]]
        both = [target for target in (self.target, self.live) if target]
        seconds: dict[str, list[float]] = {target.name: [] for target in both}
        for number, question in enumerate([*questions[:1], *questions]):
            for target in both:
                elapsed = self._time(target, question)
                if number:
                    seconds[target.name].append(elapsed)
        live = seconds[self.live.name] if self.live else []
        policy = self.policy
        return evaluate_latency(
            seconds[self.target.name], live, policy.latency_factor, policy.latency_seconds
        )

    def _time(self, target: ModelCollection, question: str) -> float:
        encoder = self.index.load(target.spec)
        started = time.perf_counter()
        search_collection(target.index.store, target.name, encoder, question, 10)
        return time.perf_counter() - started

    def scores(self) -> tuple[Scores, str]:
        """Return the model's retrieval scores, and the kind of the queries."""
        return self._scores(self.target), self._queries[1]

    def _scores(self, target: ModelCollection) -> Scores:
        queries, _ = self._queries
        encoder = self.index.load(target.spec)
        rankings = []
        for query in queries:
            hits = search_collection(
                target.index.store, target.name, encoder, query.question, SEARCH_LIMIT
            )
            rankings.append(list(dict.fromkeys(hit.document_id for hit in hits)))
        return mean_scores(queries, rankings)

    @cached_property
    def _queries(self) -> tuple[list[LabelledQuery], QueryKind]:
        """The queries and their kind: labelled by the user, or known items of the corpus."""
        if self.policy.queries_file:
            return read_queries(self.policy.queries_file), QueryKind.LABELLED
        items = self._sample.unique("document_id", keep="first", maintain_order=True)
        queries = [
            LabelledQuery(question, {row["document_id"]: 1.0})
            for row in items.head(self.policy.queries).iter_rows(named=True)
            if (question := known_item(row["text"]))
        ]
        return queries, QueryKind.KNOWN_ITEM

    @cached_property
    def _sample(self) -> pl.DataFrame:
        """The chunks used to evaluate vectors and to draw queries."""
        count = max(self.policy.sampled_chunks, self.policy.queries)
        return sampled_chunks(self.index.lake, self.index.shards, count)

    def _attempts(self) -> Iterator[None]:
        """Yield at once, then at an interval while there is time for pending writes to arrive."""
        until = time.monotonic() + self.policy.wait_seconds
        yield
        while time.monotonic() < until:
            time.sleep(POLL_SECONDS)
            yield


_SAMPLE_SCHEMA = {name: CHUNKS[name] for name in ("chunk_id", "document_id", "text")}


def sampled_chunks(lake: Lake, shards: Sequence[str], count: int) -> pl.DataFrame:
    """Draw a uniform, repeatable sample of all chunks [chunk_id, document_id, text]."""
    sample = empty({**_SAMPLE_SCHEMA, "order": pl.String()})
    for shard in shards:
        table = lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS).table
        ordered = table.select(
            *_SAMPLE_SCHEMA, order=pl.col("chunk_id").map_elements(digest, pl.String)
        )
        sample = pl.concat([sample, ordered]).sort("order").head(count)
    return sample.drop("order")


@dataclass(frozen=True, slots=True)
class Completeness:
    """Completeness of a shard.

    Attributes:
        rows: Rows that it should have.
        changed: Rows that are not in sync, but were when they were looked at before.
        behind: Rows that were not in sync whenever they were looked at: id and digest of each row
            that is missing or different, id and an empty string of each that is extra.
        problem: The problem, in words; empty if there is none.
        transient: Whether a run may still solve the problem.
    """

    rows: int = 0
    changed: int = 0
    behind: frozenset[tuple[str, str]] = frozenset()
    problem: str = ""
    transient: bool = False


def _completeness(
    target: ModelCollection, shard: str, behind: frozenset[tuple[str, str]] | None = None
) -> Completeness:
    """Compare a shard's rows with its chunks, given the rows that were behind at the last look."""
    before = target.index.lake.meta(target.key(shard))
    desired = target.index.lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS)
    if desired.meta is None:
        return Completeness(problem=f"shard {shard} has never been chunked")
    if before is None:
        return Completeness(problem=f"shard {shard} was never written to {target.name}")
    change = target.difference(shard, desired.table)
    if change.nothing_to_do:
        return Completeness(rows=desired.table.height)
    # Permanent only if the shard was in sync according to the lake both before and after.
    in_sync = before == target.index.lake.meta(target.key(shard)) and (
        before.derived_from(Asset.CHUNKS, desired.meta)
        and before.data_version == desired.meta.data_version
    )
    make = change.make.select("chunk_id", "row_digest").iter_rows()
    now = frozenset([*make, *((key, "") for key in change.removed)])
    late = now if in_sync or behind is None else now & behind
    missing = sum(bool(row_digest) for _, row_digest in late)
    problem = f"shard {shard}: {missing} rows missing, {len(late) - missing} extra" if late else ""
    return Completeness(
        rows=desired.table.height,
        changed=len(now - late),
        behind=late,
        problem=problem,
        transient=bool(late) and not in_sync,
    )


def vector_faults(target: ModelCollection, shard: str, limit: int | None = None) -> VectorFaults:
    """Compare a shard's vectors in Milvus with those in the lake, up to a limit of rows."""
    faults = VectorFaults()
    try:
        rows, meta = target.desired_rows(shard)
        rows = rows if limit is None else rows.sort("chunk_id").head(limit)
        rows = target.for_milvus(shard, rows, meta)
    except (SupersededInputError, CommitConflictError):
        return faults  # the shard is changing; the run in flight writes the new vectors
    for part in rows.iter_slices(VECTORS_PER_READ):
        stored = target.index.store.vectors(target.name, part["chunk_id"].to_list())
        present = part.filter(pl.col("chunk_id").is_in(list(stored)))
        if present.height:
            vectors = np.stack([stored[key] for key in present["chunk_id"]])
            faults += _faults(target.spec, present, vectors)
    return faults


def _faults(spec: ModelSpec, rows: pl.DataFrame, stored: Vectors) -> VectorFaults:
    finite = np.isfinite(stored).all(axis=1)
    lengths = np.linalg.norm(stored, axis=1)
    unit = np.abs(lengths - 1) <= UNIT_LENGTH_TOLERANCE if spec.normalize else finite
    same = np.isclose(stored, rows["vector"].to_numpy(), atol=STORED_TOLERANCE).all(axis=1)
    bad = np.flatnonzero(~(finite & unit & same))
    return VectorFaults(
        rows=len(stored),
        not_finite=int((~finite).sum()),
        wrong_length=int((finite & ~unit).sum()),
        other=int((finite & unit & ~same).sum()),
        first=f"chunk {rows['chunk_id'][int(bad[0])]}" if len(bad) else "",
    )


def _cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other)))
