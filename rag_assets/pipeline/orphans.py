"""What nothing refers to any more: rows, collections, vectors and checkpoints.

They do no harm but take space. Each is what a step leaves that died half-way: a retirement, or a
run between its commit and its clearing up. The check `orphans` shows them, the job `compact`
removes those in the lake and the collections of retired models.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.core.models.lifecycle import Registry, Role
from rag_assets.core.names import Asset
from rag_assets.pipeline.index import Index


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something that nothing refers to.

    Attributes:
        kind: rows, collection, partitions or checkpoints.
        name: The collection, or the path in the lake.
        why: For people.
        parts: Of a thing in the lake: asset and partition key; empty otherwise.
        removable: Whether `compact` removes it.
    """

    kind: str
    name: str
    why: str
    parts: tuple[str, ...] = ()
    removable: bool = True


def find_orphans(index: Index, registry: Registry) -> Iterator[Orphan]:
    """Find all collections, partitions and checkpoints that nothing refers to.

    Args:
        index: Where to look.
        registry: The models' records.
    """
    yield from _collections(index, registry)
    yield from _partitions(index, registry)
    yield from _checkpoints(index)


def stray_rows(index: Index, name: str) -> Iterator[Orphan]:
    """Find rows of a collection that belong to no shard of ours."""
    if count := index.store.count_outside(name, index.shards):
        why = f"{count} rows are of no shard; something else writes to it"
        yield Orphan("rows", name, why, removable=False)


def remove(index: Index, orphan: Orphan) -> None:
    """Remove one that is removable."""
    if orphan.kind == "collection":
        index.store.drop(orphan.name)
    elif orphan.kind == "checkpoints":
        index.lake.clear_checkpoints(PartitionKey(*orphan.parts))
    elif orphan.kind == "partitions":
        index.lake.remove(*orphan.parts)


def _collections(index: Index, registry: Registry) -> Iterator[Orphan]:
    ours = [n for n in index.store.collections() if n.startswith(f"{index.alias}__")]
    for name in ours:
        properties = index.store.info(name).properties
        model, source = properties.get("model", ""), properties.get("source")
        role = registry.role(model)
        if source == index.source and role in (None, Role.RETIRED):
            why = f"{model or 'its model'} is {role or 'not on record'}"
            yield Orphan("collection", name, why, removable=role is Role.RETIRED)


def _partitions(index: Index, registry: Registry) -> Iterator[Orphan]:
    for asset in (Asset.EMBEDDINGS, Asset.COLLECTION):
        for model in sorted({parts[0] for parts in index.lake.partitions(asset)}):
            if registry.role(model) is Role.RETIRED:
                yield Orphan("partitions", f"{asset}/{model}", "retired", (asset, model))


def _checkpoints(index: Index) -> Iterator[Orphan]:
    for parts in sorted(index.lake.checkpointed_partitions()):
        if _is_in_sync(index.lake, PartitionKey(*parts)):
            name = "/".join(("checkpoints", *parts))
            yield Orphan("checkpoints", name, "its partition is in sync", parts)


def _is_in_sync(lake: Lake, key: PartitionKey) -> bool:
    """Whether a partition is made from its present inputs, so that no run takes up its work."""
    meta = lake.meta(key)
    if meta is None:
        return False
    if key.asset == Asset.PARSED_DOCUMENTS and meta.code_version != parser_version():
        return False
    inputs = {name: PartitionKey(name, key.parts[-1]) for name in meta.upstream}
    now = {name: lake.meta(of) for name, of in inputs.items()}
    return all(m is not None and m.as_input() == meta.upstream[n] for n, m in now.items())
