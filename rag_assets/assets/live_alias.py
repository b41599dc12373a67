"""`live_alias`: which model's collection queries are answered from. The only writer of it."""

import logging
from dataclasses import dataclass

import dagster as dg
from pydantic import Field

from rag_assets.adapters.lake import PartitionKey
from rag_assets.adapters.milvus import MilvusStore
from rag_assets.assets import chunks, collection
from rag_assets.assets.collection import ModelCollection
from rag_assets.assets.metadata import as_metadata
from rag_assets.core.diffs import diff
from rag_assets.core.errors import PromotionRefusedError
from rag_assets.core.identity import shard_keys
from rag_assets.core.tables import CHUNKS
from rag_assets.resources import LakeResource, MilvusResource, ModelsResource

logger = logging.getLogger(__name__)

NAME = "live_alias"


class LiveAliasConfig(dg.Config):
    """Which model to make live."""

    model: str = Field(
        default="",
        description="The model key to make live. Empty: keep the live one, or the setting"
        " RAG_ASSETS_MODEL if nothing is live yet.",
    )


@dataclass(frozen=True, slots=True)
class Release:
    """What was made live."""

    model: str
    collection: str
    previous_collection: str
    signature: str
    rows: int


def promote(target: ModelCollection, alias: str, shards: list[str]) -> Release:
    """Point the alias at a model's collection, after proof that it is complete (I9).

    Raises:
        PromotionRefusedError: A shard's rows are not its chunks, or the collection is missing.
    """
    rows = verify_complete(target, shards)
    previous = target.store.alias_target(alias) or ""
    if previous != target.name:
        target.store.set_alias(alias, target.name)
    return Release(
        model=target.spec.key,
        collection=target.name,
        previous_collection=previous,
        signature=target.spec.signature,
        rows=rows,
    )


def verify_complete(target: ModelCollection, shards: list[str]) -> int:
    """Return the number of rows if each shard's rows are exactly its chunks.

    Raises:
        PromotionRefusedError: With every shard that is not, and how.
        SignatureMismatchError: The collection was filled by another spec.
    """
    if not target.store.exists(target.name):
        raise PromotionRefusedError(
            f"{target.spec.key} cannot be made live: there is no collection {target.name}."
            " Materialise embeddings and collection for all shards first."
        )
    target.refuse_other_spec()
    checked = [_check_shard(target, shard) for shard in shards]
    complaints = [complaint for complaint, _ in checked if complaint]
    if complaints:
        raise PromotionRefusedError(
            f"{target.spec.key} cannot be made live: {'; '.join(complaints)}."
            " Materialise the shards named, in flow order."
        )
    return sum(rows for _, rows in checked)


def _check_shard(target: ModelCollection, shard: str) -> tuple[str, int]:
    """Return (what is wrong or nothing, rows) of a shard."""
    wanted = target.lake.read(PartitionKey(chunks.NAME, shard), CHUNKS)
    if wanted.meta is None:
        return f"shard {shard} has never been chunked", 0
    change = diff(
        wanted.table.select("chunk_id", "row_digest"),
        target.store.shard_rows(target.name, shard),
        key="chunk_id",
        same=["row_digest"],
    )
    if change.nothing_to_do:
        return "", wanted.table.height
    return f"shard {shard} lacks {change.make.height} rows, {len(change.removed)} too many", 0


def build(shards: int, first_model: str) -> dg.AssetsDefinition:
    """Return the asset; it has no partitions: there is one live model."""

    @dg.asset(
        name=NAME,
        deps=[collection.NAME],
        group_name="serving",
        kinds={"milvus"},
        description="The Milvus alias that names the live collection. Materialising it verifies"
        " that the collection is complete and points the alias at it, in one atomic step.",
    )
    def live_alias(
        context: dg.AssetExecutionContext,
        config: LiveAliasConfig,
        lake: LakeResource,
        models: ModelsResource,
        milvus: MilvusResource,
    ) -> None:
        with milvus.connect() as store:
            spec = models.spec(config.model or live_model(store, milvus.alias) or first_model)
            target = ModelCollection(
                lake.open(), store, spec, milvus.collection_name(spec), lake.source_url
            )
            release = promote(target, milvus.alias, shard_keys(shards))
        logger.info("%s is live: %s with %d rows", spec.key, release.collection, release.rows)
        context.add_asset_metadata(as_metadata(release))

    return live_alias


def live_model(store: MilvusStore, alias: str) -> str | None:
    """Return the key of the live model, or None if nothing is live."""
    name = store.alias_target(alias)
    return store.info(name).properties.get("model") if name else None
