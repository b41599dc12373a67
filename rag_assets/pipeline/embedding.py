"""Embedding: one vector for each distinct text of a shard, for one model (`embeddings`).

What belongs here: which texts are embedded, which vectors are reused, checkpoints and the commit.
What does not: how a model is loaded and called (`adapters/embedders/`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from time import perf_counter
from typing import Any

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.core.diffs import diff
from rag_assets.core.errors import (
    ConfigurationError,
    LakeError,
    LakeUnavailableError,
    SignatureMismatchError,
)
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.models.vectors import Encoded
from rag_assets.core.names import Asset
from rag_assets.core.tables import (
    CHUNKS,
    Schema,
    content_version,
    embeddings_schema,
    unused_vectors_schema,
)
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.progress import Progress

logger = logging.getLogger(__name__)

UNUSED_VECTORS = "unused_vectors"
"""The lake's folder of vectors whose texts no chunk has any more. They are no part of `embeddings`:
whether they are kept changes nothing that is derived from it."""


@dataclass(frozen=True, slots=True)
class EmbeddingReport:
    """What one run did to a shard.

    Attributes:
        vectors: Vectors of the shard.
        computed: New vectors that the model computed.
        resumed: New vectors from the checkpoints of an interrupted run.
        reused: New vectors taken from another shard of the run, a same-signature model, or those
            kept since their text was removed.
        kept: Vectors that the shard had before.
        removed: Vectors removed.
        tokens: Tokens of the texts embedded, as the chunker counts them.
        seconds: Time that the model took to embed them.
        gpu_seconds: The same, if this process used a GPU; otherwise 0.
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
    """One model over a run's shards, and the same-signature models whose vectors it can reuse."""

    index: Index
    spec: ModelSpec
    same_signature: Sequence[str] = ()

    @property
    def lake(self) -> Lake:
        """The lake with chunks and vectors."""
        return self.index.lake

    @property
    def schema(self) -> Schema:
        """The columns of the partitions of `embeddings`."""
        return embeddings_schema(self.spec)

    def key(self, shard: str) -> PartitionKey:
        """Return the key of a shard's partition of `embeddings`."""
        return PartitionKey(Asset.EMBEDDINGS, self.spec.key, shard)

    def actual(self, shard: str, columns: list[str] | None = None) -> Partition:
        """Read a shard's vectors, or some of the columns.

        Raises:
            SignatureMismatchError: They were computed with another spec under the same key.
        """
        partition = self.lake.read(self.key(shard), self.schema, columns)
        if partition.meta is not None and partition.meta.code_version != self.spec.signature:
            raise SignatureMismatchError(
                f"Model {self.spec.key} was used with signature {partition.meta.code_version};"
                f" its spec now has {self.spec.signature}. A spec is immutable once used: restore"
                " it, and give the changed one a new key."
            )
        return partition

    def unused(self, shard: str) -> Partition:
        """Read the vectors that are kept although no chunk has their text any more."""
        schema = unused_vectors_schema(self.spec)
        found = self.lake.read(PartitionKey(UNUSED_VECTORS, self.spec.key, shard), schema)
        same = found.meta is not None and found.meta.code_version == self.spec.signature
        return found if same else replace(found, table=found.table.clear())

    def same_signature_vectors(self, shard: str) -> pl.DataFrame:
        """Read the vectors that same-signature models have for a shard."""
        keys = [PartitionKey(Asset.EMBEDDINGS, key, shard) for key in self.same_signature]
        partitions = [self.lake.read(key, self.schema) for key in keys]
        tables = [
            partition.table
            for partition in partitions
            if partition.meta and partition.meta.code_version == self.spec.signature
        ]
        return pl.concat([pl.DataFrame(schema=self.schema), *tables])


def embed_shards(run: ModelRun, shards: list[str]) -> Iterator[tuple[str, EmbeddingReport]]:
    """Bring each shard's vectors in sync with its chunks; embed only new texts.

    A text that another shard of this run has, or had when the run began (a renamed document), is
    not embedded again.

    Raises:
        StaleInputError: A shard has no chunks yet.
        SignatureMismatchError: The key was used with another spec.
        EmbeddingError: The model returned unusable vectors.
    """
    shared = SharedVectors.between(run, shards)
    for shard in shards:
        yield shard, embed_shard(run, shard, shared)


def embed_shard(run: ModelRun, shard: str, shared: "SharedVectors") -> EmbeddingReport:
    """Bring one shard's vectors in sync with its chunks, as `embed_shards` does for several."""
    return run.lake.update(partial(_embed_once, run, shard, shared))


class SharedVectors:
    """Vectors that one shard of a run has, or will compute, and another shard lacks.

    Keeps only those: otherwise an initial load would keep every vector in memory.
    """

    def __init__(self, schema: Schema) -> None:
        self._table = pl.DataFrame(schema=schema)
        self._missing_twice = pl.Series(dtype=pl.String)

    @classmethod
    def between(cls, run: ModelRun, shards: list[str]) -> "SharedVectors":
        """Collect the vectors that one shard has and another lacks, before any shard is changed."""
        shared = cls(run.schema)
        if len(shards) > 1:
            actual = cache(lambda shard: run.actual(shard, ["text_digest"]).table["text_digest"])
            missing_by_shard = {}
            for shard in shards:
                with _left_to_its_turn(shard):
                    missing_by_shard[shard] = run.lake.update(
                        partial(_missing_digests, run, shard, actual)
                    )
            missing = pl.concat([pl.Series(dtype=pl.String), *missing_by_shard.values()])
            shared._missing_twice = missing.filter(missing.is_duplicated()).unique()
            for shard in missing_by_shard if len(missing) else ():
                with _left_to_its_turn(shard):
                    if run.lake.update(partial(actual, shard)).is_in(missing.implode()).any():
                        shared._keep(run.lake.update(partial(run.actual, shard)).table, missing)
        return shared

    def offer(self, computed: pl.DataFrame) -> None:
        """Keep those of a shard's new vectors that another shard also lacks."""
        self._keep(computed, self._missing_twice)

    def _keep(self, vectors: pl.DataFrame, digests: pl.Series) -> None:
        useful = vectors.filter(pl.col("text_digest").is_in(digests.implode()))
        self._table = pl.concat([self._table, useful]).unique("text_digest")

    def of(self, texts: pl.DataFrame) -> pl.DataFrame:
        """Return the shared vectors of these texts."""
        return self._table.join(texts, on="text_digest", how="semi")


@contextmanager
def _left_to_its_turn(shard: str) -> Iterator[None]:
    """Pass over a shard that cannot be read; it fails, alone, when it is embedded."""
    try:
        yield
    except LakeUnavailableError:
        raise
    except LakeError as error:
        logger.warning("%s: %s", shard, error)


def _embed_once(run: ModelRun, shard: str, shared: SharedVectors) -> EmbeddingReport:
    if report := _in_sync(run, shard):
        return report
    actual = run.actual(shard)
    texts, inputs = _desired_texts(run.index, shard)
    change = diff(texts, actual.table, key="text_digest", same=[])
    resumed, reused, missing = _existing_vectors(run, shard, change.make, shared)
    computed, seconds = _compute(run, shard, missing)
    shared.offer(computed)
    table = pl.concat([change.keep, resumed, reused, computed]).sort("text_digest")
    meta = Meta(
        data_version=content_version(table, ["text_digest"]),
        code_version=run.spec.signature,
        upstream={Asset.CHUNKS: inputs.as_input()},
        changes=actual.changes + change.size,
    )
    if meta != actual.meta:
        removed = actual.table.join(texts, on="text_digest", how="anti")
        keep_unused(run, shard, removed, in_use=change.keep["text_digest"])
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
        gpu_seconds=seconds if computed.height and run.index.load(run.spec).on_gpu else 0.0,
    )


def embed_documents(run: ModelRun, shard: str, ids: Set[str]) -> tuple[int, pl.DataFrame]:
    """Embed the texts of some documents of a shard, ahead of the run over all of it.

    Commits nothing, so that it does not get in that run's way: new vectors become a checkpoint,
    which the run finds unless it has read them already, and then embeds these few texts again.

    Returns:
        The number of texts embedded, and the vectors of all texts of the documents.

    Raises:
        StaleInputError: The shard has no chunks yet.
        SignatureMismatchError: The key was used with another spec.
        EmbeddingError: The model returned unusable vectors.
    """
    texts, _ = _desired_texts(run.index, shard, ids)
    change = diff(texts, run.actual(shard).table, key="text_digest", same=[])
    reused = _reusable(run, shard, change.make, SharedVectors(run.schema))
    computed, _ = _compute(run, shard, change.make.join(reused, "text_digest", "anti"))
    if computed.height:
        run.lake.checkpoint(run.key(shard), computed)
    return computed.height, pl.concat([change.keep, reused, computed])


def keep_unused(run: ModelRun, shard: str, removed: pl.DataFrame, in_use: pl.Series) -> int:
    """Keep the vectors of removed texts, and drop those that have been unused for too long.

    This comes before the commit that removes them, so that a killed run loses none.

    Args:
        run: The model.
        shard: The shard.
        removed: Vectors that the shard had until now.
        in_use: Digests of the texts whose vectors the shard has and keeps.

    Returns:
        The number of vectors dropped because their grace period is over.
    """
    actual, now = run.unused(shard), datetime.now(UTC)
    if removed.is_empty() and actual.table.is_empty():
        return 0
    grace = timedelta(seconds=run.index.vector_grace_seconds)
    fresh = removed.with_columns(unused_since=pl.lit(now, pl.Datetime("us", "UTC")))
    unused = pl.concat([fresh, actual.table]).unique("text_digest", keep="first")
    unused = unused.filter(~pl.col("text_digest").is_in(in_use.implode())).sort("text_digest")
    kept = unused.filter(pl.col("unused_since") > now - grace)
    if not kept.equals(actual.table):
        meta = Meta(content_version(kept, ["text_digest"]), run.spec.signature)
        key = PartitionKey(UNUSED_VECTORS, run.spec.key, shard)
        run.lake.commit(key, kept, meta, actual.token)
    return unused.height - kept.height


def drop_unused(index: Index) -> int:
    """Drop the vectors of all models that have been unused for too long; return their number."""
    dropped = 0
    for model, shard in index.lake.partitions(UNUSED_VECTORS):
        with suppress(ConfigurationError):  # the models file has lost the model
            run = ModelRun(index, index.find_spec(model))
            nothing = pl.DataFrame(schema=run.schema)
            dropped += index.lake.update(
                partial(keep_unused, run, shard, nothing, nothing["text_digest"])
            )
    return dropped


def _in_sync(run: ModelRun, shard: str) -> EmbeddingReport | None:
    """Return the report of a shard in sync, according to metadata alone; None if it is not."""
    actual = run.lake.meta(run.key(shard))
    texts = run.lake.meta(PartitionKey(Asset.CHUNKS, shard))
    if actual is None or texts is None or "rows" not in actual.metrics:
        return None
    if actual.code_version != run.spec.signature or not actual.derived_from(Asset.CHUNKS, texts):
        return None
    vectors = int(actual.metrics["rows"])
    return EmbeddingReport(vectors, 0, 0, 0, vectors, 0, 0, 0.0, 0.0)


def _missing_digests(run: ModelRun, shard: str, actual: Callable[[str], pl.Series]) -> pl.Series:
    """Return the digests of a shard's texts that have no vector in it."""
    if _in_sync(run, shard):
        return pl.Series("text_digest", dtype=pl.String)
    texts = run.lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS, ["text_digest"]).table
    digests = texts["text_digest"].unique()
    return digests.filter(~digests.is_in(actual(shard).implode()))


def _desired_texts(
    index: Index, shard: str, ids: Set[str] | None = None
) -> tuple[pl.DataFrame, Meta]:
    """Return a shard's distinct texts [text_digest, chunk_id, text, tokens] and their metadata.

    Of all of its documents, or of these.
    """
    table, meta = index.chunks(shard)
    if ids is not None:
        table = table.filter(pl.col("document_id").is_in(sorted(ids)))
    texts = table.select("text_digest", "chunk_id", "text", "tokens")
    return texts.unique("text_digest", keep="first", maintain_order=True), meta


def _existing_vectors(
    run: ModelRun, shard: str, texts: pl.DataFrame, shared: SharedVectors
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return (checkpointed vectors, vectors reused from elsewhere, texts still without one)."""
    if texts.is_empty():
        empty = pl.DataFrame(schema=run.schema)
        return empty, empty, texts
    checkpointed = run.lake.checkpointed(run.key(shard), run.schema)
    resumed = checkpointed.join(texts, "text_digest", "semi").unique("text_digest")
    if resumed.height:
        path, count = run.key(shard).path, resumed.height
        logger.info("%s: resuming with %d texts embedded before", path, count)
    missing = texts.join(resumed, "text_digest", "anti")
    reused = _reusable(run, shard, missing, shared)
    return resumed, reused, missing.join(reused, "text_digest", "anti")


def _reusable(
    run: ModelRun, shard: str, texts: pl.DataFrame, shared: SharedVectors
) -> pl.DataFrame:
    """Return the vectors that texts have outside of the shard's partition."""
    unused = run.unused(shard).table.drop("unused_since")
    elsewhere = pl.concat([unused, shared.of(texts), run.same_signature_vectors(shard)])
    return elsewhere.join(texts, "text_digest", "semi").unique("text_digest")


def _compute(run: ModelRun, shard: str, texts: pl.DataFrame) -> tuple[pl.DataFrame, float]:
    """Embed texts in micro-batches of similar length, with a checkpoint after each.

    Returns:
        The vectors, and the seconds that the model took.
    """
    by_length = texts.sort(pl.col("text").str.len_chars(), "text_digest")
    batches = [pl.DataFrame(schema=run.schema)]
    progress = Progress(logger, f"{run.key(shard).path}: embedded", texts.height, "texts")
    seconds = 0.0
    for batch in by_length.iter_slices(run.index.micro_batch):
        model = run.index.load(run.spec)
        started = perf_counter()
        encoded = model.encode_passages(batch["text"].to_list(), batch["chunk_id"].to_list())
        seconds += perf_counter() - started
        batches.append(_table(run, batch["text_digest"], encoded))
        progress.add(batch.height)
        if progress.done < progress.total:
            run.lake.checkpoint(run.key(shard), batches[-1])
    return pl.concat(batches), seconds


def _table(run: ModelRun, digests: pl.Series, encoded: Encoded) -> pl.DataFrame:
    columns: dict[str, Any] = {"text_digest": digests, "vector": encoded.dense}
    if "sparse" in run.schema:
        columns["sparse"] = [
            [{"token": token, "weight": weight} for token, weight in weights.items()]
            for weights in encoded.sparse or ()
        ]
    return pl.DataFrame(columns, schema=run.schema)
