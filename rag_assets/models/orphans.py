"""Orphans: rows, collections, vectors and checkpoints that nothing refers to any more.

They are harmless but use space. An interrupted step leaves them: a retirement, or a run that died
between its commit and its cleanup.

What belongs here: finding orphans, and removing those that are safe to remove. What does not: when
that is done (the check `orphans` and the job `compact` in `defs/`).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.core.errors import LakeCorruptionError
from rag_assets.core.models.lifecycle import Registry, Role
from rag_assets.core.names import Asset
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.vectors import UNUSED_VECTORS


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something that nothing refers to.

    Attributes:
        kind: rows, collection, partitions or checkpoints.
        name: Name of the collection, or path in the lake.
        why: Why it is an orphan, in words.
        parts: Asset and partition key, if it is in the lake; empty otherwise.
        removable: Whether `compact` removes it.
    """

    kind: str
    name: str
    why: str
    parts: tuple[str, ...] = ()
    removable: bool = True


def find_orphans(index: Index, registry: Registry) -> Iterator[Orphan]:
    """Find all collections, partitions and checkpoints that nothing refers to."""
    yield from _collections(index, registry)
    yield from _partitions(index, registry)
    yield from _checkpoints(index)


def stray_rows(index: Index, name: str) -> Iterator[Orphan]:
    """Find rows of a collection that belong to none of the shards."""
    if count := index.store.count_outside(name, index.shards):
        why = f"{count} rows belong to no shard: another client writes to it"
        yield Orphan("rows", name, why, removable=False)


def remove(index: Index, orphan: Orphan) -> None:
    """Remove an orphan that is removable."""
    if orphan.kind == "collection":
        index.store.drop(orphan.name)
    elif orphan.kind == "checkpoints":
        index.lake.checkpoints.clear(PartitionKey(*orphan.parts))
    elif orphan.kind == "partitions":
        index.lake.remove(*orphan.parts)


def _collections(index: Index, registry: Registry) -> Iterator[Orphan]:
    ours = [n for n in index.store.collections() if n.startswith(f"{index.alias}__")]
    for name in ours:
        properties = index.store.info(name).properties
        model, source = properties.get("model", ""), properties.get("source")
        role = registry.role(model)
        if source == index.source and role in (None, Role.RETIRED):
            why = f"{model or 'its model'} is {role or 'not registered'}"
            yield Orphan("collection", name, why, removable=role is Role.RETIRED)


def _partitions(index: Index, registry: Registry) -> Iterator[Orphan]:
    for asset in (Asset.EMBEDDINGS, UNUSED_VECTORS, Asset.COLLECTION):
        for model in sorted({parts[0] for parts in index.lake.partitions(asset)}):
            if registry.role(model) is Role.RETIRED:
                yield Orphan("partitions", f"{asset}/{model}", "retired", (asset, model))


def _checkpoints(index: Index) -> Iterator[Orphan]:
    for parts in sorted(index.lake.checkpoints.partitions()):
        with suppress(LakeCorruptionError):  # a run that rebuilds the partition resumes them
            if not _is_in_sync(index.lake, PartitionKey(*parts)):
                continue
            name = "/".join(("checkpoints", *parts))
            yield Orphan("checkpoints", name, "its partition is in sync", parts)


def _is_in_sync(lake: Lake, key: PartitionKey) -> bool:
    """Whether a partition is derived from its current inputs, so that no run resumes its work."""
    meta = lake.meta(key)
    if meta is None:
        return False
    if key.asset == Asset.PARSED_DOCUMENTS and not (
        meta.code_version.startswith(parser_version())  # whatever the rules
    ):
        return False
    current = {name: lake.meta(PartitionKey(name, key.parts[-1])) for name in meta.upstream}
    return all(m is not None and m.as_input() == meta.upstream[n] for n, m in current.items())
