"""Erasure: what is left of documents that are gone from the source, in the lake and in Milvus.

Everything can be repeated, and a killed erasure is completed by the next one: what is to be done
follows from what is found. First the documents leave the tables, if the pipeline has not followed
the source yet. Then each partition of their shards is committed anew without anything of the past;
whoever has read them before then fails to commit, and finds the newer listing.

What belongs here: which documents may be erased, and doing it. What does not: Dagster's storage
(`instance/erasure.py`), and what is kept of one partition (`adapters/lake/`).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, replace
from functools import cached_property, partial
from uuid import uuid4

import polars as pl

from rag_assets.adapters.lake.files.parts import KEY
from rag_assets.adapters.lake.lake import Held, Lake, Partition, PartitionKey
from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.sources import Sources
from rag_assets.core.erasure import Looked, document_digest
from rag_assets.core.errors import ErasureError
from rag_assets.core.identity import by_shard
from rag_assets.core.metadata.sidecars import with_sidecars
from rag_assets.core.names import Asset
from rag_assets.core.sources.records import SourceState
from rag_assets.core.sources.removals import Missing
from rag_assets.core.sources.source_ids import source_of
from rag_assets.core.tables import (
    CHUNKS,
    COLLECTION,
    DOCUMENT_TABLES,
    SOURCE_FILES,
    Table,
    empty,
)
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources.listing import look_up
from rag_assets.pipeline.upkeep.compaction import VECTORS

TEXT = "text_digest"
LISTED = (
    "is still in the source. Delete it there first, with its sidecar if it has one, or exclude it"
    " and wait for the next listing"
)
REMOVING = "belongs to a source that is being removed. Repeat this when that is done"
MISSING = {
    Missing.DOUBTED: "is missing from the source, but its removal is doubted: confirm it with"
    " `rag-assets sources accept-removal` first",
    Missing.WAITING: "is missing from the source with so many others that the next listing decides"
    " whether this is doubted: repeat this after it",
}
EMPTY = (
    "There is nothing at all in the source, as if it were not mounted, so nothing is erased. If it"
    " is empty on purpose, put any file into it for as long as this takes."
)
COMPACTED = (
    "Files that the compaction of {name} has replaced: a cluster deletes them after"
    " dataCoord.gc.dropTolerance, three hours by default, and does not tell."
)
NOT_COMPACTED = (
    "Whether {name} has removed deleted rows from its files: the server takes no request to compact"
    " (Milvus Lite does so by itself, when it has some files of a similar size)."
)


@dataclass(frozen=True)
class Erasure:
    """Documents to be erased.

    Attributes:
        index: The lake and Milvus.
        sources: The sources, from which they have to be gone.
        document_ids: The documents.
    """

    index: Index
    sources: Sources
    document_ids: frozenset[str]

    @property
    def lake(self) -> Lake:
        """The lake."""
        return self.index.lake

    @cached_property
    def by_shard(self) -> Mapping[str, frozenset[str]]:
        """Shard → its documents."""
        return by_shard(self.document_ids, self.index.shards)

    def refusals(self) -> dict[str, str]:
        """Return the documents that must not be erased, each with why, in half a sentence.

        Raises:
            SourceError: A source cannot be reached.
            ConfigurationError: A source is not declared any more, and has not been removed.
            ErasureError: There is nothing in the source.
        """
        refused: dict[str, str] = {}
        for name, ids in self.by_source.items():
            if self.sources.records.state(name) is SourceState.REMOVING:
                refused |= dict.fromkeys(ids, REMOVING)
        listed = self._listed()
        for name, ids in self._present.items():
            source = self.sources.source(name)
            if source.is_empty:
                raise ErasureError(EMPTY)
            present = source.look_up(_objects(source, ids), listed)[KEY]
            refused |= dict.fromkeys(map(source.about, present), LISTED)
        return _missing(listed) | refused

    @cached_property
    def by_source(self) -> Mapping[str, frozenset[str]]:
        """Source → its documents."""
        names = {source_of(document_id) for document_id in self.document_ids}
        return {
            name: frozenset(i for i in self.document_ids if source_of(i) == name)
            for name in sorted(names)
        }

    @property
    def _present(self) -> Mapping[str, frozenset[str]]:
        """The documents of sources that there are; those of others are gone with their source."""
        records = self.sources.records
        gone = (SourceState.NOT_ADDED, SourceState.REMOVING)
        return {n: ids for n, ids in self.by_source.items() if records.state(n) not in gone}

    def _listed(self) -> pl.DataFrame:
        """Return what the listing has of the documents."""
        listings = self.lake.read_all(
            Asset.SOURCE_FILES, list(self.by_shard), SOURCE_FILES, self.by_shard
        )
        return pl.concat([empty(SOURCE_FILES), *(part.table for part in listings.values())])

    def look(self) -> list[Looked]:
        """Look for the documents in all objects of their shards, and in all collections."""
        objects = self.lake.held({*self.by_shard}, self.document_ids)
        examined = Counter(one.place for one in objects)
        found = Counter(one.place for one in objects if one.found)
        store = self.index.store
        return [
            *(Looked(f"lake: {p}", "objects", n, found[p]) for p, n in sorted(examined.items())),
            *(
                Looked(
                    f"Milvus: {name}",
                    "rows",
                    store.count(name),
                    len(store.document_keys(name, self.document_ids)),
                )
                for name in self.collections()
            ),
            *self._look_for_imports(),
        ]

    def _look_for_imports(self) -> list[Looked]:
        """Look for files of bulk imports, of which there are none while no collection is filled."""
        files = len(self._imports())
        return [Looked("Milvus: import files", "files", files, files)] if files else []

    def _imports(self) -> list[str]:
        files = self.index.import_files
        return files.left(self.collections()) if files else []

    def collections(self) -> list[str]:
        """Return the collections of the platform, of whatever model and role.

        Raises:
            ErasureError: One is being filled, so that it cannot be read.
        """
        store = self.index.store
        prefixed = (n for n in store.collections() if n.startswith(f"{self.index.alias}__"))
        ours = [n for n in prefixed if store.info(n).properties.get("source") == self.index.source]
        if filling := [name for name in ours if not store.indexed(name)]:
            raise ErasureError(
                f"{', '.join(filling)} is being filled, and cannot be read before it is indexed:"
                " wait until the model is built, or cancel its build."
            )
        return ours

    def run(self) -> list[str]:
        """Erase the documents; return what cannot be known, in sentences.

        Raises:
            ErasureError: One is not gone, or something cannot be erased now.
            RagAssetsError: The source, the lake or Milvus cannot be reached.
        """
        collections = self.collections()
        self._refuse(self.refusals())
        for name, ids in self._present.items():
            policy = self.sources.specs[name].removal_policy
            source = self.sources.source(name)
            look_up(self.lake, source, _objects(source, ids), self.index.shards, policy=policy)
        self._refuse(_missing(self._listed()))
        for shard, ids in self.by_shard.items():
            for key, table in self._tables(shard):
                self.lake.update(partial(self._erase_rows, key, table, ids))
            self.lake.discard(self._objects(shard))
        if (imports := self._imports()) and self.index.import_files:
            self.index.import_files.remove(imports)
        return [self._erase_from(name) for name in collections]

    def _refuse(self, refused: Mapping[str, str]) -> None:
        if refused:
            document_id, why = next(iter(refused.items()))
            raise ErasureError(f"Document {document_digest(document_id)} {why}.")

    def _objects(self, shard: str) -> list[Held]:
        return self.lake.held({shard}, self.by_shard[shard])

    def _tables(self, shard: str) -> Iterator[tuple[PartitionKey, Table]]:
        """Yield the shard's partitions that have documents, in the order of the flow."""
        for asset, table in DOCUMENT_TABLES.items():
            yield PartitionKey(asset, shard), table
        for asset, table_of in VECTORS.items():
            for model, of_shard in self.lake.partitions(asset):
                if of_shard == shard:
                    yield PartitionKey(asset, model, shard), table_of(self.index.find_spec(model))

    def _erase_rows(self, key: PartitionKey, table: Table, ids: Set[str]) -> None:
        """Remove documents from a partition, and whatever is left of rows that it has no more.

        The partition is read before the listing, as by whoever writes it.
        """
        opened = self.lake.open(key, table.schema)
        shard = key.parts[-1]
        listed = self.lake.read(PartitionKey(Asset.SOURCE_FILES, shard), SOURCE_FILES, ids=ids)
        self._refuse(dict.fromkeys(listed.table[KEY], LISTED))
        if opened.meta is None:
            self._refuse_set_aside(key, opened)
            return
        if opened.head is None and table.lookup:
            opened = self._with_documents(key, table, opened)
        rows = self.lake.rows(key, table.schema, opened, ids, [KEY])
        if rows.height and opened.meta is not None:
            meta = replace(opened.meta, changes=opened.changes + rows.height)
            self.lake.replace(key, table, opened, ids, empty(table.schema), meta=meta)
        self.lake.compact(key, table, forget=True)

    def _with_documents(self, key: PartitionKey, table: Table, opened: Partition) -> Partition:
        """Give vectors of an earlier release, which are by text alone, the documents of today."""
        assert opened.meta is not None
        vectors = self.lake.rows(key, table.schema, opened)
        chunks = self.lake.read(PartitionKey(Asset.CHUNKS, key.parts[-1]), CHUNKS, [KEY, TEXT])
        owners = chunks.table.unique() if key.asset == Asset.EMBEDDINGS else chunks.table.clear()
        rows = vectors.drop(KEY).join(owners, on=TEXT).select(vectors.columns)
        meta = replace(opened.meta, changes=opened.changes + 1)
        self.lake.replace(key, table, opened, None, rows, meta=meta)
        return self.lake.open(key, table.schema)

    @staticmethod
    def _refuse_set_aside(key: PartitionKey, opened: Partition) -> None:
        if opened.head is not None:
            raise ErasureError(
                f"{key.path} is corrupt and was set aside, and its sound parts are used to rebuild"
                " it: run the pipeline over the shard first."
            )

    def _erase_from(self, collection: str) -> str:
        """Delete the documents' rows from a collection, and have them removed physically.

        Returns:
            What is not known then, in a sentence.
        """
        store, model = self.index.store, self.index.store.info(collection).properties["model"]
        for shard, ids in self.by_shard.items():
            key = PartitionKey(Asset.COLLECTION, model, shard)
            self.lake.update(partial(self._delete_rows, collection, key, ids))
        store.flush(collection)
        compacted = store.compacted(collection, store.compact(collection))
        return (COMPACTED if compacted else NOT_COMPACTED).format(name=collection)

    def _delete_rows(self, collection: str, key: PartitionKey, ids: Set[str]) -> None:
        """Delete rows of documents; a run that is writing the shard is overtaken.

        While this takes, the record says that the shard is being written: if this process dies, the
        next run compares all rows of the shard.
        """
        record = self.lake.read(key, COLLECTION)
        token = record.token
        if record.meta is not None:
            writing = record.table.with_columns(state=pl.lit("writing"), writer=pl.lit(uuid4().hex))
            meta = replace(record.meta, data_version="")
            token = self.lake.commit(key, writing, meta, token)
        store = self.index.store
        store.delete(collection, store.document_keys(collection, ids))
        if record.meta is not None:
            self.lake.commit(key, record.table, record.meta, token)


def _objects(source: Source, ids: Set[str]) -> frozenset[str]:
    """Return the ids of documents and, if there are sidecars, of theirs."""
    return frozenset(i for i in with_sidecars(ids) if source.about(i) in ids)


def _missing(listed: pl.DataFrame) -> dict[str, str]:
    """Return why documents that are missing from the source, but still listed, are not erased."""
    missing = listed.filter(pl.col("missing").is_not_null())
    return {id_: MISSING[Missing(kind)] for id_, kind in missing.select(KEY, "missing").iter_rows()}
