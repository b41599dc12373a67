"""A lake as the release before wrote it: every partition whole in one object, vectors by text."""

from dataclasses import replace

from rag_assets.adapters.lake.files.encoding import decode_head
from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.names import Asset
from rag_assets.core.tables import DOCUMENT_TABLES, Schema, embeddings_table
from rag_assets.pipeline.vectors import UNUSED_VECTORS

SUMS = ("bytes", "missing", "tokens")  # metrics that it did not record


def write_as_before(lake: Lake, spec: ModelSpec) -> None:
    """Write all partitions as the release before would have; their states stay."""
    lake.remove(UNUSED_VECTORS, spec.key)
    for asset, table in DOCUMENT_TABLES.items():
        for parts in lake.partitions(asset):
            _write(lake, PartitionKey(asset, *parts), table.schema)
    for model, shard in lake.partitions(Asset.EMBEDDINGS):
        if model == spec.key:
            _write(
                lake, PartitionKey(Asset.EMBEDDINGS, model, shard), embeddings_table(spec).schema
            )
    for path in lake._objects.list("parts/"):
        lake._objects.delete(path)


def _write(lake: Lake, key: PartitionKey, schema: Schema) -> None:
    found = lake.read(key, schema)
    assert found.meta is not None
    metrics = {name: n for name, n in found.meta.metrics.items() if name not in SUMS}
    table = found.table
    if "vector" in schema:
        table = table.drop("document_id").unique("text_digest").sort("text_digest")
    lake.commit(key, table, replace(found.meta, metrics=metrics), found.token)


def whole_partitions(lake: Lake, asset: str) -> set[tuple[str, ...]]:
    """Return the partitions of an asset that are still as the release before wrote them."""
    keys = [PartitionKey(asset, *parts) for parts in lake.partitions(asset)]
    found = {key.parts: lake._objects.get(key.path) for key in keys}
    return {
        parts for parts, stored in found.items() if stored and not decode_head(stored.data, asset)
    }
