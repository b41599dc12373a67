"""The steps in a model's life, as jobs and the command line take them. Each can be repeated."""

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import polars as pl

from rag_assets.adapters.lake import PartitionKey
from rag_assets.assets import chunks, collection, embeddings
from rag_assets.assets.embeddings import ModelRun
from rag_assets.assets.metadata import figure
from rag_assets.core.build_preview import Corpus, Preview, preview
from rag_assets.core.errors import ConfigurationError, MoveRefusedError
from rag_assets.core.identity import shard_keys
from rag_assets.core.model_life import Registry, Role
from rag_assets.core.model_spec import ModelSpec, collection_name
from rag_assets.core.tables import CHUNKS
from rag_assets.model_registry import ModelRegistry, read_records
from rag_assets.partitions import MODEL_DIMENSION
from rag_assets.resources import LakeResource, MilvusResource, ModelsResource
from rag_assets.runs import runs_of_model
from rag_assets.staleness import Metas

logger = logging.getLogger(__name__)

RUNS_END_WITHIN = 120.0  # seconds, after they were told to
LOOK_AGAIN = 0.5
RATE_TEXTS = 64  # embedded to measure a rate
RATE_RUNS = 50  # materialisations that a rate is read from


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands: shards that are `written` were filled, `in_step` also read back."""

    model: str
    role: str
    signature: str
    collection: str
    embedded: int
    written: int
    in_step: int
    shards: int


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """One platform's models."""

    instance: dg.DagsterInstance
    lake: LakeResource
    models: ModelsResource
    milvus: MilvusResource

    def register(self, key: str) -> Registry:
        """Record a model of the models file and make its key a partition.

        Raises:
            ConfigurationError: The models file has no such model.
            MoveRefusedError: The key was used for another spec, or Milvus lacks what it asks for.
        """
        spec = self.models.spec(key)
        with self._registry() as registry:
            if complaint := registry.store.lacks(spec.sparse):
                raise MoveRefusedError(f"{key} is not registered: {complaint}")
            changed = registry.change(lambda now: now.register(key, spec.signature))
        self.instance.add_dynamic_partitions(MODEL_DIMENSION, [key])
        return changed

    def build(self, key: str, *, beside: bool = False) -> Registry:
        """Make a registered model a candidate: from now on the index sensor has it built.

        Raises:
            MoveRefusedError: It is not registered, or there is a candidate already.
        """
        with self._registry() as registry:
            return registry.change(lambda now: now.build(key, beside=beside))

    def cancel(self, key: str) -> Registry:
        """Stop building a candidate; what was built stays, and the next build goes on from it.

        Raises:
            MoveRefusedError: It is or was live.
        """
        with self._registry() as registry:
            changed = registry.change(lambda now: now.cancel(key))
        self._end_runs(key)
        return changed

    def retire(self, key: str, grace_seconds: float) -> Registry:
        """Remove a model that is not live: its runs, collection, vectors and partition.

        Nothing is dropped before queries that were being answered from it had their time.

        Raises:
            MoveRefusedError: It is live or about to be, or was registered again meanwhile.
            ConfigurationError: A run that writes for it does not end.
        """
        with self._registry() as registry:
            registry.change(lambda now: now.retire(key))
            self._end_runs(key)
            name = collection_name(self.milvus.alias, key)
            if registry.store.exists(name):
                logger.info("%s: dropped in %g s, when queries have ended", name, grace_seconds)
                time.sleep(grace_seconds)
            changed = registry.read()
            if changed.role(key) is not Role.RETIRED:
                raise MoveRefusedError(f"{key} is {changed.role(key)} again; nothing was removed.")
            registry.store.drop(name)
            for asset in (collection.NAME, embeddings.NAME):
                registry.lake.remove(asset, key)
        if self.instance.has_dynamic_partition(MODEL_DIMENSION, key):
            self.instance.delete_dynamic_partition(MODEL_DIMENSION, key)
        return changed

    def fed(self) -> list[str]:
        """Return the keys of the models whose collections receive every change."""
        return read_records(self.lake.open()).fed

    def standings(self) -> list[Standing]:
        """Return where every model stands, in order of registration."""
        with self._registry() as registry:
            known, lake = registry.read(), registry.lake
            shards = shard_keys(self.lake.shards)
            made = {
                name: lake.metas(name, {})
                for name in (chunks.NAME, embeddings.NAME, collection.NAME)
            }
        return [
            Standing(
                model=key,
                role=str(known.role(key)),
                signature=record.signature,
                collection=collection_name(self.milvus.alias, key),
                embedded=sum((key, shard) in made[embeddings.NAME] for shard in shards),
                written=sum(bool(_rows_version(made, key, shard)) for shard in shards),
                in_step=sum(_in_step(made, key, shard) for shard in shards),
                shards=len(shards),
            )
            for key, record in known.records.items()
        ]

    def preview(self, key: str, tokens_per_second: float = 0.0) -> Preview:
        """Estimate what building a model takes, before anything is built.

        Args:
            key: A model of the models file; it need not be registered.
            tokens_per_second: The rate of one GPU. 0: as its last runs measured it, or as this
                machine does now on a sample.
        """
        spec = self.models.spec(key)
        lake = self.lake.open()
        run = ModelRun(
            lake,
            spec,
            lambda: self.models.load(spec),
            1,
            read_records(lake).twins(key, spec.signature),
        )
        corpus, sample = _corpus(run, shard_keys(self.lake.shards))
        rate, rate_from = tokens_per_second, "given"
        if not rate:
            rate, rate_from = self._rate_of_runs(key), "the model's last runs"
        if not rate:
            rate, rate_from = self._rate_here(spec, sample), "a sample on this machine"
        return preview(corpus, spec, rate, rate_from, self.milvus.replicas)

    def _rate_of_runs(self, key: str) -> float:
        found = self.instance.fetch_materializations(
            dg.AssetKey(embeddings.NAME), limit=RATE_RUNS
        ).records
        tokens = seconds = 0.0
        for record in found:
            event = record.asset_materialization
            if event and (event.partition or "").startswith(f"{key}|"):
                tokens += figure(event.metadata, "tokens")
                seconds += figure(event.metadata, "seconds")
        return tokens / seconds if seconds else 0.0

    def _rate_here(self, spec: ModelSpec, sample: pl.DataFrame) -> float:
        if sample.is_empty():
            return 0.0
        model = self.models.load(spec)
        texts, names = sample["text"].to_list(), sample["text_digest"].to_list()
        model.encode_passages(texts[:1], names[:1])
        started = time.perf_counter()
        model.encode_passages(texts, names)
        return float(sample["tokens"].sum()) / (time.perf_counter() - started)

    @contextmanager
    def _registry(self) -> Iterator[ModelRegistry]:
        with self.milvus.connect() as store:
            yield ModelRegistry(self.lake.open(), store, self.milvus.alias)

    def _end_runs(self, key: str) -> None:
        """Cancel the runs that write for a model, and wait for their end."""
        until = time.monotonic() + RUNS_END_WITHIN
        for run in runs_of_model(self.instance, key):
            self.instance.run_coordinator.cancel_run(run.run_id)
        while running := runs_of_model(self.instance, key):
            if time.monotonic() > until:
                raise ConfigurationError(
                    f"Runs of {key} do not end: {', '.join(run.run_id for run in running)}."
                    " Terminate them in the UI, then repeat."
                )
            time.sleep(LOOK_AGAIN)


def _rows_version(made: Metas, key: str, shard: str) -> str:
    rows = made[collection.NAME].get((key, shard))
    return rows.data_version if rows else ""


def _in_step(made: Metas, key: str, shard: str) -> bool:
    cut = made[chunks.NAME].get((shard,))
    return cut is not None and _rows_version(made, key, shard) == cut.data_version


def _corpus(run: ModelRun, shards: Sequence[str]) -> tuple[Corpus, pl.DataFrame]:
    """Return what is to be embedded, and a sample of it [text_digest, text, tokens]."""
    total, rows = (
        Corpus(0, 0, 0, 0),
        pl.col("text", "title", "heading", "document_id", "source_uri"),
    )
    sample = pl.DataFrame(schema={name: CHUNKS[name] for name in ("text_digest", "text", "tokens")})
    for shard in shards:
        table = run.lake.read(PartitionKey(chunks.NAME, shard), CHUNKS).table
        have = pl.concat([run.held(shard).table, run.twin_vectors(shard)])
        missing = table.unique("text_digest", keep="first", maintain_order=True).join(
            have, "text_digest", "anti"
        )
        total = Corpus(
            total.chunks + table.height,
            total.texts + missing.height,
            total.tokens + int(missing["tokens"].sum()),
            total.row_bytes
            + int(table.select(pl.sum_horizontal(rows.str.len_bytes()).sum()).item()),
        )
        sample = pl.concat([sample, missing.select(sample.columns)]).head(RATE_TEXTS)
    return total, sample
