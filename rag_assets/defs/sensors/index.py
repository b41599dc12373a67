"""`index_sensor`: the reconciler of the collections: requests runs over stale shards.

Like `source_sensor` it is level-triggered; it does no work itself.
"""

from collections import defaultdict
from collections.abc import Mapping

import dagster as dg

from rag_assets.adapters.lake.lake import KnownMetas, Meta
from rag_assets.core.errors import ConfigurationError, VectorStoreError
from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.names import Asset, Job, Partition, Sensor
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.scheduling.stream import Patience
from rag_assets.defs.jobs.ingestion import index_chunks
from rag_assets.defs.jobs.models import promote, restore_alias
from rag_assets.defs.resources import ChunkerResource, IndexResource, ParserResource
from rag_assets.defs.sensors.alias import AliasWatch
from rag_assets.defs.sensors.tick import Tick
from rag_assets.instance.freshness import is_alive
from rag_assets.instance.partitions import model_shard_key
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.counts import PARTITIONED
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.staleness import Metas, stale_documents, stale_rows
from rag_assets.pipeline.sync import unfilled
from rag_assets.settings import Settings


def index_sensor(settings: Settings, stream: dg.JobDefinition) -> dg.SensorDefinition:
    """Return the sensor; it is running by default, and its interval is a setting."""
    known: KnownMetas = {}  # partition metadata, kept from tick to tick
    watch = AliasWatch()
    patience: defaultdict[str, Patience] = defaultdict(Patience)

    @dg.sensor(
        name=Sensor.INDEX,
        jobs=[index_chunks, stream, promote, restore_alias],
        minimum_interval_seconds=settings.tick_seconds,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Finds shards that are not in sync in a maintained model's collection and"
        " requests runs over them. Requests the promotion of the first model once all of its shards"
        " are filled, and that a live alias that is missing is put back.",
    )
    def evaluate(
        context: dg.SensorEvaluationContext,
        index: IndexResource,
        parser: ParserResource,
        chunker: ChunkerResource,
    ) -> dg.SensorResult:
        tick = Tick(context.instance, settings)
        with index.open() as opened:
            metas: Metas = tick.read_metas(opened.lake, PARTITIONED, known)
            registry = watch.records(tick, opened)
            _report_unregistered(tick, registry)
            metas = watch.look(tick, opened, registry, metas)
            for model in registry.maintained:
                try:
                    _reconcile(tick, opened, model, metas, patience[model], first=watch.unserved)
                except ConfigurationError as error:
                    tick.messages.append(f"{model} is skipped: {error}")
                except VectorStoreError as error:
                    tick.messages.append(f"Stale shards wait for Milvus. {error}")
                    tick.behind.append(model)
                    break
            if not tick.messages:
                tick.messages.append("Every collection is in sync with its chunks.")
            versions = parser.version, chunker.version
            if tick.bulk_from is None and stale_documents(metas, opened.shards, *versions):
                tick.behind.append("documents")
            in_sync = registry.maintained and not tick.behind
            if in_sync and is_alive(context.instance, settings, Asset.SOURCE_FILES):
                counts = {"models": len(registry.maintained), "shards": len(opened.shards)}
                tick.heartbeat(Asset.COLLECTION, **counts)
        return tick.result(context)

    return evaluate


def _report_unregistered(tick: Tick, registry: Registry) -> None:
    """Add a message for each partition of a model that is not registered."""
    for model in tick.instance.get_dynamic_partitions(Partition.MODEL):
        if registry.role(model) is None:
            tick.messages.append(f"{model} is skipped: it is a partition but not registered.")


def _reconcile(
    tick: Tick, index: Index, model: str, metas: Metas, patience: Patience, *, first: bool
) -> None:
    """Request runs of a model's stale shards or, if nothing has been live, its promotion.

    Raises:
        ConfigurationError: The model has no spec.
        VectorStoreError: Milvus is unreachable.
    """
    shards, target = list(index.shards), ModelCollection.of(index, model)
    stale = stale_rows(metas, shards, target.spec)
    if stale:
        stale = _due(stale, target, metas[Asset.COLLECTION])
    tick.request_runs(
        Job.INDEX_CHUNKS,
        tick.of_layout(stale, index),
        [str(model_shard_key(model, shard)) for shard in shards],
        stream_changes=tick.settings.stream_chunks,
        unit=f"chunks for {model}",
        assets=(Asset.EMBEDDINGS, Asset.COLLECTION),
        patience=patience,
    )
    # Filled is enough: in a bucket that changes all the time, there may be no moment at which no
    # shard at all is stale. The gate waits for each row to be in sync at some moment.
    candidate = first and model == tick.settings.model
    if candidate and not unfilled(metas[Asset.COLLECTION], model, shards):
        _go_live(tick, model, metas)


def _due(
    stale: list[StaleShard], target: ModelCollection, rows: Mapping[tuple[str, ...], Meta]
) -> list[StaleShard]:
    """Return the stale shards over which to request runs now.

    While a collection is being filled, these are the shards not filled yet; changes to the others
    follow when it is read back.

    Raises:
        VectorStoreError: Milvus is unreachable, so that a run would fail too.
    """
    shards = target.index.shards
    missing = set(unfilled(rows, target.spec.key, shards)) if target.filling else set()
    return [shard for shard in stale if shards[shard.position] in missing] or stale


def _go_live(tick: Tick, model: str, metas: Metas) -> None:
    """Request the promotion of the first model, once there is text to evaluate it on."""
    if not any(meta.metrics.get("rows", 1) for meta in metas[Asset.CHUNKS].values()):
        tick.messages.append(
            f"Nothing is live yet: no document has any text to evaluate {model} on. It goes live"
            " when the first one has."
        )
        return
    tick.messages.append(f"Nothing is live and every shard of {model} is filled → promotion")
    why = "every shard of the first model is filled and nothing is live"
    tick.request_alias(Job.PROMOTE, model, why, model=model)
