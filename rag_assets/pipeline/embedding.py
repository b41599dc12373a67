"""Embedding: one vector for each distinct text of a shard, for one model (`embeddings`).

What belongs here: which texts are embedded, found elsewhere, checkpointed and committed. What does
not: how a model is loaded and called (`adapters/embedders/`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from time import perf_counter
from typing import Any

import polars as pl

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.core.diffs import diff
from rag_assets.core.errors import SignatureMismatchError, StaleInputError
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.models.vectors import Encoded
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS, Schema, content_version, embeddings_schema
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EmbeddingReport:
    """What one shard's run did.

    For texts that are new to the shard, `resumed` counts vectors that a killed run left behind,
    and `reused` those that another shard of the run or another key of the same signature has.
    `tokens` are those of the computed ones, by the chunker's count, `seconds` the model's own
    time for them, and `gpu_seconds` that time if this process spent it on a GPU.
    """

    vectors: int
    computed: int
    resumed: int
    reused: int
    kept: int
    removed: int
    tokens: int
    seconds: float
    gpu_seconds: float


@dataclass(frozen=True, slots=True)
class ModelRun:
    """One model over the shards of a run.

    Attributes:
        index: Has the lake with chunks and vectors, and loads the model.
        spec: The model.
        same_signature: Other keys with the same signature: their vectors are this model's too.
    """

    index: Index
    spec: ModelSpec
    same_signature: Sequence[str] = ()

    @property
    def lake(self) -> Lake:
        """Where chunks and vectors are."""
        return self.index.lake

    def load(self) -> Embedder:
        """Load the model; to be called only if there is something to embed."""
        return self.index.load(self.spec)

    @property
    def schema(self) -> Schema:
        """The columns of this model's vectors."""
        return embeddings_schema(self.spec)

    def key(self, shard: str) -> PartitionKey:
        """Return the partition of a shard."""
        return PartitionKey(Asset.EMBEDDINGS, self.spec.key, shard)

    def actual(self, shard: str, columns: list[str] | None = None) -> Partition:
        """Read a shard's vectors, or some of their columns.

        Raises:
            SignatureMismatchError: They were made with another spec under the same key.
        """
        partition = self.lake.read(self.key(shard), self.schema, columns)
        if partition.meta is not None and partition.meta.code_version != self.spec.signature:
            raise SignatureMismatchError(
                f"Model {self.spec.key} was used with signature {partition.meta.code_version};"
                f" its spec now has {self.spec.signature}. A used spec is immutable: put it back"
                " and give the changed one a new key."
            )
        return partition

    def same_signature_vectors(self, shard: str) -> pl.DataFrame:
        """Read what other keys of the same signature have for a shard."""
        keys = [PartitionKey(Asset.EMBEDDINGS, key, shard) for key in self.same_signature]
        actual = [self.lake.read(key, self.schema) for key in keys]
        mine = [p.table for p in actual if p.meta and p.meta.code_version == self.spec.signature]
        return pl.concat([pl.DataFrame(schema=self.schema), *mine])


def embed_shards(run: ModelRun, shards: list[str]) -> Iterator[tuple[str, EmbeddingReport]]:
    """Make the vectors of each shard agree with its chunks; embed only new texts.

    A text that another shard of the same run already has, or had until this run (a document
    that was renamed), is not embedded again.

    Raises:
        StaleInputError: A shard has no chunks yet.
        SignatureMismatchError: The key was used with another spec.
        EmbeddingError: The model's answer is unusable.
    """
    shared = SharedVectors.between(run, shards)
    for shard in shards:
        yield shard, run.lake.update(partial(_embed_once, run, shard, shared))


class SharedVectors:
    """Vectors that one shard of a run has, or will have, and another one lacks.

    Holds no others: a first load would otherwise keep every vector in memory.
    """

    def __init__(self, schema: Schema) -> None:
        self._table = pl.DataFrame(schema=schema)
        self._lacked_twice = pl.Series(dtype=pl.String)

    @classmethod
    def between(cls, run: ModelRun, shards: list[str]) -> "SharedVectors":
        """Collect from all shards what any of them lacks, before the first one changes."""
        shared = cls(run.schema)
        if len(shards) > 1:
            actual = cache(partial(_embedded_digests, run))
            lacking = pl.concat([_lacking(run, shard, actual) for shard in shards])
            shared._lacked_twice = lacking.filter(lacking.is_duplicated()).unique()
            for shard in shards if len(lacking) else []:
                if actual(shard).is_in(lacking.implode()).any():
                    shared._keep(run.actual(shard).table, lacking)
        return shared

    def offer(self, computed: pl.DataFrame) -> None:
        """Keep those of a shard's new vectors that another shard lacks too."""
        self._keep(computed, self._lacked_twice)

    def _keep(self, vectors: pl.DataFrame, desired: pl.Series) -> None:
        useful = vectors.filter(pl.col("text_digest").is_in(desired.implode()))
        self._table = pl.concat([self._table, useful]).unique("text_digest")

    def among(self, texts: pl.DataFrame) -> pl.DataFrame:
        """Return the vectors that there are for these texts."""
        return self._table.join(texts, on="text_digest", how="semi")


def _embed_once(run: ModelRun, shard: str, shared: SharedVectors) -> EmbeddingReport:
    if report := _in_sync(run, shard):
        return report
    actual = run.actual(shard)
    texts, inputs = _desired_texts(run.lake, shard)
    change = diff(texts, actual.table, key="text_digest", same=[])
    resumed, reused, missing = _found(run, shard, change.make, shared)
    computed, seconds = _computed(run, shard, missing)
    shared.offer(computed)
    table = pl.concat([change.keep, resumed, reused, computed]).sort("text_digest")
    meta = Meta(
        data_version=content_version(table, ["text_digest"]),
        code_version=run.spec.signature,
        upstream={Asset.CHUNKS: inputs.as_input()},
        changes=actual.changes + change.size,
    )
    if meta != actual.meta:
        run.lake.commit(run.key(shard), table, meta, actual.token)
        run.lake.clear_checkpoints(run.key(shard))
    return EmbeddingReport(
        vectors=table.height,
        computed=computed.height,
        resumed=resumed.height,
        reused=reused.height,
        kept=change.keep.height,
        removed=len(change.removed),
        tokens=int(missing["tokens"].sum()),
        seconds=seconds,
        gpu_seconds=seconds if computed.height and run.load().on_gpu else 0.0,
    )


def _in_sync(run: ModelRun, shard: str) -> EmbeddingReport | None:
    """Return the report of a shard that has its vectors, without reading them; None of another."""
    actual = run.lake.meta(run.key(shard))
    texts = run.lake.meta(PartitionKey(Asset.CHUNKS, shard))
    if actual is None or texts is None or "rows" not in actual.metrics:
        return None
    if actual.code_version != run.spec.signature or not actual.derived_from(Asset.CHUNKS, texts):
        return None
    vectors = int(actual.metrics["rows"])
    return EmbeddingReport(vectors, 0, 0, 0, vectors, 0, 0, 0.0, 0.0)


def _lacking(run: ModelRun, shard: str, actual: Callable[[str], pl.Series]) -> pl.Series:
    """Return the digests of the texts that have no vector in their shard."""
    if _in_sync(run, shard):
        return pl.Series("text_digest", dtype=pl.String)
    texts = run.lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS, ["text_digest"]).table
    digests = texts["text_digest"].unique()
    return digests.filter(~digests.is_in(actual(shard).implode()))


def _embedded_digests(run: ModelRun, shard: str) -> pl.Series:
    """Return the digests of the texts that have a vector in their shard."""
    return run.actual(shard, ["text_digest"]).table["text_digest"]


def _desired_texts(lake: Lake, shard: str) -> tuple[pl.DataFrame, Meta]:
    """Return a shard's distinct texts [text_digest, chunk_id, text, tokens] and their Meta."""
    partition = lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS)
    if partition.meta is None:
        raise StaleInputError(f"Shard {shard} has no chunks yet: materialise chunks first.")
    texts = partition.table.select("text_digest", "chunk_id", "text", "tokens")
    return texts.unique("text_digest", keep="first", maintain_order=True), partition.meta


def _found(
    run: ModelRun, shard: str, texts: pl.DataFrame, shared: SharedVectors
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return (vectors left by a killed run, those found elsewhere, the texts without one)."""
    if texts.is_empty():
        nothing = pl.DataFrame(schema=run.schema)
        return nothing, nothing, texts
    checkpointed_partitions = run.lake.checkpointed(run.key(shard), run.schema)
    resumed = checkpointed_partitions.join(texts, "text_digest", "semi").unique("text_digest")
    if resumed.height:
        logger.info("%s: %d texts were embedded before", run.key(shard).path, resumed.height)
    missing = texts.join(resumed, "text_digest", "anti")
    elsewhere = pl.concat([shared.among(missing), run.same_signature_vectors(shard)])
    reused = elsewhere.join(missing, "text_digest", "semi").unique("text_digest")
    return resumed, reused, missing.join(reused, "text_digest", "anti")


def _computed(run: ModelRun, shard: str, texts: pl.DataFrame) -> tuple[pl.DataFrame, float]:
    """Embed texts in micro-batches of similar length; keep each aside as it is done.

    Returns:
        The vectors, and the seconds that the model took.
    """
    by_length = texts.sort(pl.col("text").str.len_chars(), "text_digest")
    batches = [pl.DataFrame(schema=run.schema)]
    progress = Progress(logger, f"{run.key(shard).path}: embedded", texts.height, "texts")
    seconds = 0.0
    for batch in by_length.iter_slices(run.index.micro_batch):
        model = run.load()
        started = perf_counter()
        made = model.encode_passages(batch["text"].to_list(), batch["chunk_id"].to_list())
        seconds += perf_counter() - started
        batches.append(_table(run, batch["text_digest"], made))
        progress.add(batch.height)
        if progress.done < progress.total:
            run.lake.checkpoint(run.key(shard), batches[-1])
    return pl.concat(batches), seconds


def _table(run: ModelRun, digests: pl.Series, made: Encoded) -> pl.DataFrame:
    columns: dict[str, Any] = {"text_digest": digests, "vector": made.dense}
    if "sparse" in run.schema:
        columns["sparse"] = [
            [{"token": token, "weight": weight} for token, weight in weights.items()]
            for weights in made.sparse or ()
        ]
    return pl.DataFrame(columns, schema=run.schema)
