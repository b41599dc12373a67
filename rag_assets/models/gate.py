"""Measures what a model must prove before it is made live; `core/promotion_gate.py` judges it."""

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
    evaluate_vectors,
)
from rag_assets.core.models.retrieval import LabelledQuery, Scores, known_item, mean_scores
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.models.vectors import UNIT_LENGTH_TOLERANCE, Vectors
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.index import Index
from rag_assets.serving.searcher import search_collection

logger = logging.getLogger(__name__)

DEPTH = 100  # chunks asked for, to have ten documents
LOOK_AGAIN = 0.5  # seconds
VECTORS_AT_ONCE = 10_000
STORED_TOLERANCE = 1e-5  # between a vector in Milvus and in the lake; both are float32


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """The gate's numbers.

    Attributes:
        margin: How much lower than live's each retrieval score may be.
        latency_factor: How many times live's 95th percentile a query may take.
        latency_seconds: What a query may take whatever live's does.
        sampled_chunks: Chunks embedded again.
        queries: Known-item queries, where there is no file of labelled ones.
        timed_queries: Queries that are timed.
        wait_seconds: How long a shard that is being written is waited for.
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
    """One model on its way to be live.

    Attributes:
        target: Its collection.
        live: The live model's, or None if nothing is live or this one is.
        policy: The numbers.
    """

    target: ModelCollection
    live: ModelCollection | None
    policy: GatePolicy

    @property
    def index(self) -> Index:
        """Where the collections are."""
        return self.target.index

    def evaluate(self, rules: Sequence[Rule]) -> list[Finding]:
        """Evaluate the rules, in their order.

        What cannot be judged, because the collection is another spec's or cannot be read, is not
        passed.

        Raises:
            ConfigurationError: The model cannot be loaded, or the file of queries is wrong.
            VectorStoreError: Milvus cannot be reached.
        """
        found: list[Finding] = []
        for rule in Rule:
            if rule in rules:
                found.append(self._evaluated(rule, found))
                logger.info("%s: %s", self.target.spec.key, found[-1].sentence)
        return found

    def _evaluated(self, rule: Rule, before: Sequence[Finding]) -> Finding:
        basic = [f.rule for f in before if not f.passed and f.rule in (Rule.SIGNATURE, Rule.INDEX)]
        if basic:
            return Finding(rule, False, f"not judged, as {basic[0]} was refused")
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
        found = target.index.store.info(target.name).properties.get("signature", "none")
        desired = target.spec.signature
        evidence = f"the collection's is {found}, the spec's {desired}"
        return Finding(Rule.SIGNATURE, found == desired, evidence)

    def _index(self) -> Finding:
        def state() -> tuple[bool, str, int]:
            info = self.target.index.store.info(self.target.name)
            message = (
                f"index {'finished' if info.indexed else 'not finished'}, {info.pending} rows"
                f" pending, {'loaded' if info.loaded else 'not loaded'}"
            )
            return info.indexed and info.loaded and not info.pending, message, info.pending

        if self.target.filling:
            evidence = "the collection has no index yet: its shards are still being filled"
            return Finding(Rule.INDEX, False, evidence)
        for _ in self._patiently():
            passed, message, pending = state()
            if passed:
                break
        return Finding(Rule.INDEX, passed, message, {"pending_rows": pending})

    def _complete(self) -> Finding:
        """Find each shard complete at one moment: edits go on while this looks."""
        waiting: dict[str, str] = dict.fromkeys(self.index.shards, "")
        wrong: dict[str, str] = {}
        rows = 0
        for _ in self._patiently():
            for shard in list(waiting):
                look = _look(self.target, shard)
                if look.complaint and look.may_come:
                    waiting[shard] = look.complaint
                    continue
                del waiting[shard]
                rows += look.rows
                if look.complaint:
                    wrong[shard] = look.complaint
            if not waiting:
                break
        wrong |= waiting
        evidence = f"{rows} rows in {len(self.index.shards)} shards are exactly the chunks"
        if wrong:
            evidence = "; ".join(wrong.values()) + ". Materialise the shards named, in flow order"
        metrics = {"rows": rows, "incomplete_shards": len(wrong)}
        return Finding(Rule.COMPLETE, not wrong, evidence, metrics)

    def _vectors(self) -> Finding:
        target = self.target
        found = target.index.store.info(target.name).dimension
        if found != target.spec.dimension:
            evidence = f"vectors of {found} numbers, and the spec says {target.spec.dimension}"
            return Finding(Rule.VECTORS, False, evidence)
        faults = (vector_faults(target, shard) for shard in self.index.shards)
        return evaluate_vectors(sum(faults, VectorFaults()))

    def _reproducible(self) -> Finding:
        sample = self._sample.head(self.policy.sampled_chunks)
        ids = sample["chunk_id"].to_list()
        stored = self.target.index.store.vectors(self.target.name, ids)
        again = (
            self.index.load(self.target.spec).encode_passages(sample["text"].to_list(), ids).dense
        )
        pairs = zip(ids, again, strict=True)
        return evaluate_reproduction(
            [_cosine(stored[key], now) for key, now in pairs if key in stored]
        )

    def _retrieval(self) -> Finding:
        kind = self._queries[1]
        mine, other = self._scores(self.target), self._scores(self.live) if self.live else None
        return evaluate_retrieval(mine, other, self.policy.margin, kind)

    def _latency(self) -> Finding:
        """Time whole queries, both models in turn, each after a first one that is not counted."""
        questions = [query.question for query in self._queries[0][: self.policy.timed_queries]]
        both = [target for target in (self.target, self.live) if target]
        seconds: dict[str, list[float]] = {target.name: [] for target in both}
        for number, question in enumerate([*questions[:1], *questions]):
            for target in both:
                taken = self._time(target, question)
                if number:
                    seconds[target.name].append(taken)
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
        """Return how well the model finds, and the kind of the queries."""
        return self._scores(self.target), self._queries[1]

    def _scores(self, target: ModelCollection) -> Scores:
        queries, _ = self._queries
        encoder = self.index.load(target.spec)
        rankings = []
        for query in queries:
            hits = search_collection(
                target.index.store, target.name, encoder, query.question, DEPTH
            )
            rankings.append(list(dict.fromkeys(hit.document_id for hit in hits)))
        return mean_scores(queries, rankings)

    @cached_property
    def _queries(self) -> tuple[list[LabelledQuery], QueryKind]:
        """The queries, and their kind: the user's, or known items of the corpus."""
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
        """The chunks that queries and vectors are judged by."""
        desired = max(self.policy.sampled_chunks, self.policy.queries)
        return sampled_chunks(self.index.lake, self.index.shards, desired)

    def _patiently(self) -> Iterator[None]:
        """Yield at once, and again while there is time for what is being written to arrive."""
        until = time.monotonic() + self.policy.wait_seconds
        yield
        while time.monotonic() < until:
            time.sleep(LOOK_AGAIN)
            yield


_SAMPLED = {name: CHUNKS[name] for name in ("chunk_id", "document_id", "text")}


def sampled_chunks(lake: Lake, shards: Sequence[str], desired: int) -> pl.DataFrame:
    """Draw chunks [chunk_id, document_id, text] evenly from all shards, the same each time."""
    sample = pl.DataFrame(schema={**_SAMPLED, "drawn": pl.String()})
    for shard in shards:
        table = lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS).table
        drawn = table.select(
            *_SAMPLED,
            drawn=pl.col("chunk_id").map_elements(digest, pl.String),
        )
        sample = pl.concat([sample, drawn]).sort("drawn").head(desired)
    return sample.drop("drawn")


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a shard: its rows, or what is wrong and whether that may pass by itself."""

    rows: int = 0
    complaint: str = ""
    may_come: bool = False


def _look(target: ModelCollection, shard: str) -> Look:
    before = target.index.lake.meta(target.key(shard))
    desired = target.index.lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS)
    if desired.meta is None:
        return Look(complaint=f"shard {shard} has never been chunked")
    if before is None:
        return Look(complaint=f"shard {shard} was never written to {target.name}")
    change = target.difference(shard, desired.table)
    if change.nothing_to_do:
        return Look(rows=desired.table.height)
    # Wrong for good only if the lake said before and after that the shard is in sync.
    in_sync = before == target.index.lake.meta(target.key(shard)) and (
        before.derived_from(Asset.CHUNKS, desired.meta)
        and before.data_version == desired.meta.data_version
    )
    return Look(
        complaint=f"shard {shard} lacks {change.make.height} rows, {len(change.removed)} too many",
        may_come=not in_sync,
    )


def vector_faults(target: ModelCollection, shard: str, most: int | None = None) -> VectorFaults:
    """Compare the vectors of a shard's rows, or of the first so many, with those in the lake."""
    faults = VectorFaults()
    try:
        rows, meta = target.desired_rows(shard)
        rows = rows if most is None else rows.sort("chunk_id").head(most)
        rows = target.for_milvus(shard, rows, meta)
    except (SupersededInputError, CommitConflictError):
        return faults  # an edit is on its way; its run writes what it embeds
    for part in rows.iter_slices(VECTORS_AT_ONCE):
        found = target.index.store.vectors(target.name, part["chunk_id"].to_list())
        there = part.filter(pl.col("chunk_id").is_in(list(found)))
        if there.height:
            stored = np.stack([found[key] for key in there["chunk_id"]])
            faults += _faults(target.spec, there, stored)
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
