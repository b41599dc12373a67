"""What nothing refers to any more: rows, collections, vectors and work kept aside.

They do no harm but take space. Each is what a step leaves that died half-way: a retirement, or a
run between its commit and its clearing up. The check `orphans` shows them, the job `compact`
removes those in the lake and the collections of retired models.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rag_assets.adapters.lake import Lake, PartitionKey
from rag_assets.adapters.milvus import MilvusStore
from rag_assets.adapters.parser import parser_version
from rag_assets.assets import collection, embeddings, parsed_documents
from rag_assets.core.model_life import Registry, Role


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


@dataclass(frozen=True, slots=True)
class Estate:
    """Where orphans are looked for.

    Attributes:
        lake: The lake.
        store: Milvus.
        registry: The models.
        alias: The prefix of our collections' names.
        source: The address of our source.
        shards: All shards.
    """

    lake: Lake
    store: MilvusStore
    registry: Registry
    alias: str
    source: str
    shards: Sequence[str]

    def orphans(self) -> Iterator[Orphan]:
        """Find them all."""
        yield from self._collections()
        yield from self._partitions()
        yield from self._checkpoints()

    def strays(self, name: str) -> Iterator[Orphan]:
        """Find rows of a collection that belong to no shard of ours."""
        if count := self.store.count_outside(name, self.shards):
            why = f"{count} rows are of no shard; something else writes to it"
            yield Orphan("rows", name, why, removable=False)

    def remove(self, orphan: Orphan) -> None:
        """Remove one that is removable."""
        if orphan.kind == "collection":
            self.store.drop(orphan.name)
        elif orphan.kind == "checkpoints":
            self.lake.clear_checkpoints(PartitionKey(*orphan.parts))
        elif orphan.kind == "partitions":
            self.lake.remove(*orphan.parts)

    def _collections(self) -> Iterator[Orphan]:
        ours = [n for n in self.store.collections() if n.startswith(f"{self.alias}__")]
        for name in ours:
            properties = self.store.info(name).properties
            model, source = properties.get("model", ""), properties.get("source")
            role = self.registry.role(model)
            if source == self.source and role in (None, Role.RETIRED):
                why = f"{model or 'its model'} is {role or 'not on record'}"
                yield Orphan("collection", name, why, removable=role is Role.RETIRED)

    def _partitions(self) -> Iterator[Orphan]:
        for asset in (embeddings.NAME, collection.NAME):
            for model in sorted({parts[0] for parts in self.lake.partitions(asset)}):
                if self.registry.role(model) is Role.RETIRED:
                    yield Orphan("partitions", f"{asset}/{model}", "retired", (asset, model))

    def _checkpoints(self) -> Iterator[Orphan]:
        for parts in sorted(self.lake.kept_aside()):
            if self._needs_nothing(PartitionKey(*parts)):
                name = "/".join(("checkpoints", *parts))
                yield Orphan("checkpoints", name, "its partition is in step", parts)

    def _needs_nothing(self, key: PartitionKey) -> bool:
        """Whether a partition is made from its present inputs, so that no run takes up its work."""
        meta = self.lake.meta(key)
        if meta is None:
            return False
        if key.asset == parsed_documents.NAME and meta.code_version != parser_version():
            return False
        inputs = {name: PartitionKey(name, key.parts[-1]) for name in meta.upstream}
        now = {name: self.lake.meta(of) for name, of in inputs.items()}
        return all(m is not None and m.as_input() == meta.upstream[n] for n, m in now.items())
