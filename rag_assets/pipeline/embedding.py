"""Embedding: one vector for each distinct text of a shard, for one model (`embeddings`).

What belongs here: which texts are embedded, which vectors are reused, checkpoints and the commit.
What does not: how a model is loaded and called (`adapters/embedders/`).
"""

import logging
from collections.abc import Iterator, Set
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import polars as pl

from rag_assets.adapters.lake.heads import passing_over
from rag_assets.adapters.lake.lake import Meta, Partition, PartitionKey
from rag_assets.core.models.vectors import Encoded
from rag_assets.core.names import Asset
from rag_assets.core.tables import (
    Schema,
    concat,
    empty,
)
from rag_assets.pipeline.progress import Progress
from rag_assets.pipeline.vectors import PAIR, ModelRun, keep_unused

logger = logging.getLogger(__name__)

TEXTS = [*PAIR, "chunk_id", "text", "tokens"]


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
        self._table = empty(schema)
        self._missing_twice = pl.Series(dtype=pl.String)

    @classmethod
    def between(cls, run: ModelRun, shards: list[str]) -> "SharedVectors":
        """Collect the vectors that one shard has and another lacks, before any shard is changed."""
        shared = cls(run.vectors)
        if len(shards) > 1:
            pending = {}
            for shard in shards:
                with passing_over():  # it fails, alone, when it is embedded
                    if not _in_sync(run, shard):
                        pending[shard] = run.lake.update(partial(_missing_digests, run, shard))
            missing = pl.concat([pl.Series(dtype=pl.String), *pending.values()])
            shared._missing_twice = missing.filter(missing.is_duplicated()).unique()
            for shard in shards if len(missing) else ():
                with passing_over():  # it fails, alone, when it is embedded
                    shared._keep(run.lake.update(partial(run.find, shard, missing)), missing)
        return shared

    def offer(self, computed: pl.DataFrame) -> None:
        """Keep those of a shard's new vectors that another shard also lacks."""
        self._keep(computed, self._missing_twice)

    def _keep(self, vectors: pl.DataFrame, digests: pl.Series) -> None:
        if vectors.height and len(digests):
            useful = vectors.filter(pl.col("text_digest").is_in(digests.implode()))
            columns = self._table.columns
            self._table = pl.concat([self._table, useful.select(columns)]).unique("text_digest")

    def of(self, texts: pl.DataFrame) -> pl.DataFrame:
        """Return the shared vectors of these texts."""
        return self._table.join(texts, on="text_digest", how="semi")


@dataclass(frozen=True, slots=True)
class Pending:
    """What a shard's vectors have to follow: the chunks of documents that have changed.

    Attributes:
        own: The shard's vectors, opened.
        chunks: Metadata of its chunks.
        ids: The documents; None stands for all.
        texts: Their texts [document_id, text_digest, …], each once per document.
        vectors: The vectors that they have.
    """

    own: Partition
    chunks: Meta
    ids: Set[str] | None
    texts: pl.DataFrame
    vectors: pl.DataFrame

    @classmethod
    def read(
        cls,
        run: ModelRun,
        shard: str,
        ids: Set[str] | None = None,
        columns: tuple[list[str], list[str]] | None = None,
    ) -> "Pending":
        """Read what has changed in a shard since it was embedded, or some documents.

        Args:
            run: The model.
            shard: The shard.
            ids: The documents, if not those that have changed.
            columns: Those to read of chunks and of vectors, if not all that are needed.

        Raises:
            StaleInputError: The shard has no chunks yet.
        """
        of_texts, of_vectors = columns or (TEXTS, list(run.table.schema))
        own, (chunks, meta) = run.open(shard), run.index.open_chunks(shard)
        if ids is None and own.meta and own.head:
            ids = chunks.since(own.meta.upstream.get(Asset.CHUNKS))
        texts = run.index.chunks(shard, chunks, ids, of_texts)
        texts = texts.unique(PAIR, keep="first", maintain_order=True)
        vectors = run.rows(shard, own, ids, of_vectors)
        if own.head is None and vectors.height:  # of an earlier release: by text alone
            owners = texts.select("text_digest", "document_id")
            vectors = vectors.drop("document_id").join(owners, on="text_digest", how="left")
            vectors = vectors.select(of_vectors)
        return cls(own, meta, ids, texts, vectors)

    @property
    def distinct(self) -> pl.DataFrame:
        """The texts, each once."""
        return self.texts.unique("text_digest", keep="first", maintain_order=True)

    @property
    def missing(self) -> pl.DataFrame:
        """The texts that none of the vectors is of."""
        return self.distinct.join(self.vectors, on="text_digest", how="anti")

    @property
    def in_use(self) -> pl.DataFrame:
        """The vectors that some of the texts have, each once, without their documents."""
        used = self.vectors.join(self.distinct, on="text_digest", how="semi")
        return used.unique("text_digest").drop("document_id")


def _embed_once(run: ModelRun, shard: str, shared: SharedVectors) -> EmbeddingReport:
    if report := _in_sync(run, shard):
        return report
    pending = Pending.read(run, shard)
    own, texts = pending.own, pending.texts
    resumed, reused, missing = _existing_vectors(run, shard, pending, shared)
    computed, seconds = _compute(run, shard, missing)
    shared.offer(computed)
    found = pl.concat([pending.in_use, resumed, reused, computed])
    table = texts.select(PAIR).join(found, on="text_digest", maintain_order="left")
    made = texts.join(pending.vectors, on=PAIR, how="anti")
    removed = pending.vectors.join(texts, on=PAIR, how="anti")
    meta = Meta(
        data_version="",
        code_version=run.spec.signature,
        upstream={Asset.CHUNKS: pending.chunks.as_input()},
        changes=own.changes + made.height + removed.height,
    )
    ids: set[str] | None = None
    if own.meta is not None and own.head is not None:
        ids = {*made["document_id"], *removed["document_id"]}
        table = table.filter(pl.col("document_id").is_in(list(ids)))
    if own.meta is None or ids != set() or not meta.follows_the_same(own.meta):
        keep_unused(run, shard, removed, made)
        meta = run.lake.replace(run.key(shard), run.table, own, ids, table, meta=meta)
        run.lake.checkpoints.clear(run.key(shard))
    else:  # another writer has committed the same since
        meta = own.meta
    vectors = int(meta.metrics["rows"])
    elsewhere = made.join(pending.vectors, on="text_digest", how="semi")["text_digest"].n_unique()
    return EmbeddingReport(
        vectors=vectors,
        computed=computed.height,
        resumed=resumed.height,
        reused=reused.height + elsewhere,
        kept=vectors - made.height,
        removed=removed.height,
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
    pending = Pending.read(run, shard, ids)
    reused = _reusable(run, shard, pending.missing, ids, SharedVectors(run.vectors))
    computed, _ = _compute(run, shard, pending.missing.join(reused, "text_digest", "anti"))
    if computed.height:
        run.lake.checkpoints.add(run.key(shard), computed)
    return computed.height, pl.concat([pending.in_use, reused, computed])


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


def _missing_digests(run: ModelRun, shard: str) -> pl.Series:
    """Return the digests of a shard's texts that have no vector in it."""
    return Pending.read(run, shard, columns=(PAIR, PAIR)).missing["text_digest"]


def _existing_vectors(
    run: ModelRun, shard: str, pending: Pending, shared: SharedVectors
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Return (checkpointed vectors, vectors reused from elsewhere, texts still without one)."""
    texts = pending.missing
    if texts.is_empty():
        nothing = empty(run.vectors)
        return nothing, nothing, texts
    checkpointed = run.lake.checkpoints.read(run.key(shard), run.vectors)
    resumed = checkpointed.join(texts, "text_digest", "semi").unique("text_digest")
    if resumed.height:
        path, count = run.key(shard).path, resumed.height
        logger.info("%s: resuming with %d texts embedded before", path, count)
    missing = texts.join(resumed, "text_digest", "anti")
    reused = _reusable(run, shard, missing, pending.ids, shared)
    return resumed, reused, missing.join(reused, "text_digest", "anti")


def _reusable(
    run: ModelRun, shard: str, texts: pl.DataFrame, ids: Set[str] | None, shared: SharedVectors
) -> pl.DataFrame:
    """Return the vectors that texts have elsewhere: of other documents, unused, in other shards."""
    if texts.is_empty():
        return empty(run.vectors)
    digests, columns = texts["text_digest"], list(run.vectors)
    key, opened = run.unused_key(shard), run.open_unused(shard)
    unused = run.lake.find(key, run.unused_table, opened, digests)
    here = [run.find(shard, digests).select(columns), unused.select(columns)]
    same_signature = run.same_signature_vectors(shard, ids)
    elsewhere = pl.concat([*here, shared.of(texts), same_signature])
    return elsewhere.join(texts, "text_digest", "semi").unique("text_digest")


def _compute(run: ModelRun, shard: str, texts: pl.DataFrame) -> tuple[pl.DataFrame, float]:
    """Embed texts in micro-batches of similar length, with a checkpoint after each.

    Returns:
        The vectors, and the seconds that the model took.
    """
    by_length = texts.sort(pl.col("text").str.len_chars(), "text_digest")
    batches = list[pl.DataFrame]()
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
            run.lake.checkpoints.add(run.key(shard), batches[-1])
    return concat(batches, run.vectors), seconds


def _table(run: ModelRun, digests: pl.Series, encoded: Encoded) -> pl.DataFrame:
    columns: dict[str, Any] = {"text_digest": digests, "vector": encoded.dense}
    if "sparse" in run.vectors:
        columns["sparse"] = [
            [{"token": token, "weight": weight} for token, weight in weights.items()]
            for weights in encoded.sparse or ()
        ]
    return pl.DataFrame(columns, schema=run.vectors)
