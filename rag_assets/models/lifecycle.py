"""The steps of a model's lifecycle, as jobs and the command line run them. All are repeatable.

What belongs here: the effects of a step beyond the registry. What does not: which step is allowed
(`core/models/lifecycle.py`), and going live (`promotion.py`).
"""

import logging
import time
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.errors import MoveRefusedError
from rag_assets.core.models.estimate import Corpus, Preview, preview
from rag_assets.core.models.lifecycle import Registry, Role
from rag_assets.core.models.spec import ModelSpec, next_rebuild, original_key
from rag_assets.core.names import Asset
from rag_assets.core.tables import CHUNKS, empty
from rag_assets.models.registry import ModelRegistry, model_run
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.vectors import UNUSED_VECTORS, ModelRun

logger = logging.getLogger(__name__)

RATE_TEXTS = 64  # texts embedded to measure the rate


class Orchestrator(Protocol):
    """What the lifecycle requires of the orchestrator."""

    def add_model(self, key: str) -> None:
        """Add a model's key to the partitions, unless it is there."""

    def remove_model(self, key: str) -> None:
        """Remove a model's key from the partitions, if it is there."""

    def end_runs(self, key: str) -> None:
        """Cancel the runs that write for a model, and wait for them to end.

        Raises:
            ConfigurationError: A run does not end.
        """

    def tokens_per_second(self, key: str) -> float:
        """Return the rate measured by a model's recent runs; 0 if there are none."""
        ...


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The lifecycle of one platform's models."""

    index: Index
    orchestrator: Orchestrator

    @property
    def _registry(self) -> ModelRegistry:
        return ModelRegistry(self.index)

    def register(self, key: str) -> Registry:
        """Register a model of the models file and add its key to the partitions.

        Raises:
            ConfigurationError: The models file has no such model.
            MoveRefusedError: The key was used for another spec, or Milvus lacks a required feature.
        """
        changed = self._registry.change(lambda now: registered(self.index, now, key))
        self.orchestrator.add_model(key)
        return changed

    def build(self, key: str, *, concurrent: bool = False) -> Registry:
        """Make a registered model a candidate, whose collection the index sensor then has built.

        Raises:
            MoveRefusedError: It is not registered, or another candidate is being built.
        """
        return self._registry.change(lambda now: now.build(key, concurrent=concurrent))

    def rebuild(self, key: str, *, concurrent: bool = False) -> tuple[str, Registry]:
        """Build another collection of a model from the vectors that there are.

        The collection gets the fields that are declared now, and the index of the models file. It
        is a candidate like any other, and goes live by a promotion. A rebuild that is not live yet
        is gone on with.

        Returns:
            The key of the rebuild, and the registry.

        Raises:
            ConfigurationError: The models file has no such model.
            MoveRefusedError: The model has no vectors yet, or another candidate is being built.
        """
        rebuild = rebuild_key(self._registry.read(), key)
        self.register(rebuild)
        return rebuild, self.build(rebuild, concurrent=concurrent)

    def cancel(self, key: str) -> Registry:
        """Stop building a candidate; what was built is kept, and the next build resumes from it.

        Raises:
            MoveRefusedError: It is or was live.
        """
        changed = self._registry.change(lambda now: now.cancel(key))
        self.orchestrator.end_runs(key)
        return changed

    def retire(self, key: str, grace_seconds: float) -> Registry:
        """Remove a model that is not live: its runs, collection, vectors and partition.

        The collection is dropped after a grace period, so that running queries can finish.

        Raises:
            MoveRefusedError: It is live or about to be, or was registered again in the meantime.
            ConfigurationError: A run that writes for it does not end.
        """
        self._registry.change(lambda now: now.retire(key))
        self.orchestrator.end_runs(key)
        name = self.index.collection_name(key)
        if self.index.store.exists(name):
            logger.info(
                "%s: dropping it in %g s; running queries finish first", name, grace_seconds
            )
            time.sleep(grace_seconds)
        changed = self._registry.read()
        if changed.role(key) is not Role.RETIRED:
            raise MoveRefusedError(f"{key} is {changed.role(key)} again, so nothing was removed.")
        self.index.store.drop(name)
        for asset in (Asset.COLLECTION, Asset.EMBEDDINGS, UNUSED_VECTORS):
            self.index.lake.remove(asset, key)
        self.orchestrator.remove_model(key)
        return changed

    def preview(self, key: str, tokens_per_second: float = 0.0) -> Preview:
        """Estimate the cost of building a model, without building anything.

        Args:
            key: A model of the models file; it need not be registered.
            tokens_per_second: Rate of one GPU. 0: as measured by the model's recent runs, or else
                on a sample on this machine.
        """
        spec = self.index.find_spec(key)
        corpus, sample = _corpus(model_run(self.index, spec))
        rate, rate_from = tokens_per_second, "given"
        if not rate:
            rate, rate_from = self.orchestrator.tokens_per_second(key), "the model's recent runs"
        if not rate:
            rate, rate_from = self._rate_here(spec, sample), "a sample on this machine"
        return preview(corpus, spec, rate, rate_from, self.index.replicas)

    def _rate_here(self, spec: ModelSpec, sample: pl.DataFrame) -> float:
        if sample.is_empty():
            return 0.0
        model = self.index.load(spec)
        texts, names = sample["text"].to_list(), sample["text_digest"].to_list()
        model.encode_passages(texts[:1], names[:1])
        started = time.perf_counter()
        model.encode_passages(texts, names)
        return float(sample["tokens"].sum()) / (time.perf_counter() - started)


def registered(index: Index, now: Registry, key: str) -> Registry:
    """Return a registry with a model of the models file; `Lifecycle.register` records it.

    Raises:
        ConfigurationError: The models file has no such model.
        MoveRefusedError: The key was used for another spec, or Milvus lacks a required feature.
    """
    spec = index.find_spec(key)
    if problem := index.store.lacks(spec.sparse):
        raise MoveRefusedError(f"{key} is not registered: {problem}")
    return now.register(key, spec.signature)


def rebuilt(index: Index, now: Registry, key: str, *, concurrent: bool) -> Registry:
    """Return a registry with a rebuild as a candidate; `Lifecycle.rebuild` records it.

    Raises:
        ConfigurationError, MoveRefusedError: As `Lifecycle.rebuild`.
    """
    another = rebuild_key(now, key)
    return registered(index, now, another).build(another, concurrent=concurrent)


def rebuild_key(now: Registry, key: str) -> str:
    """Return the key of the rebuild of a model that is begun, or of a new one.

    Raises:
        MoveRefusedError: The model has no vectors yet.
    """
    family = [k for k in now.maintained if original_key(k) == original_key(key)]
    if not family:
        raise MoveRefusedError(f"{key} has not been built, so there is nothing to rebuild.")
    begun = [k for k in family if "." in k and now.role(k) is Role.CANDIDATE]
    return begun[0] if begun else next_rebuild(key, now.records)


def _corpus(run: ModelRun) -> tuple[Corpus, pl.DataFrame]:
    """Return the size of the texts to embed, and a sample of them [text_digest, text, tokens]."""
    total = Corpus(0, 0, 0, 0)
    stored = pl.col("text", "title", "heading", "document_id", "source_uri")
    sample = empty({name: CHUNKS[name] for name in ("text_digest", "text", "tokens")})
    for shard in run.index.shards:
        table = run.lake.read(PartitionKey(Asset.CHUNKS, shard), CHUNKS).table
        own = run.rows(shard, run.open(shard), None, list(run.vectors))
        vectors = pl.concat([own, run.same_signature_vectors(shard)])
        texts = table.unique("text_digest", keep="first", maintain_order=True)
        missing = texts.join(vectors, "text_digest", "anti")
        row_bytes = table.select(pl.sum_horizontal(stored.str.len_bytes()).sum()).item()
        total = Corpus(
            total.chunks + table.height,
            total.texts + missing.height,
            total.tokens + int(missing["tokens"].sum()),
            total.row_bytes + int(row_bytes),
        )
        sample = pl.concat([sample, missing.select(sample.columns)]).head(RATE_TEXTS)
    return total, sample
