"""`Checkpoints`: finished work of runs that have not committed it, so that it is not repeated.

What belongs here: the objects below `checkpoints/`. What does not: what is finished work, which the
steps in `pipeline/` know.
"""

import logging
from functools import partial

import polars as pl

from rag_assets.adapters.lake.files.encoding import encode
from rag_assets.adapters.lake.files.partition import Meta, Partition, PartitionKey
from rag_assets.adapters.lake.heads import Heads, or_error
from rag_assets.adapters.objects.object_store import ObjectStore
from rag_assets.core.identity import digest
from rag_assets.core.tables import Schema, concat

logger = logging.getLogger(__name__)

FOLDER = "checkpoints"


class Checkpoints:
    """The checkpoints of all partitions in one object store."""

    def __init__(self, objects: ObjectStore, heads: Heads) -> None:
        self._objects = objects
        self._heads = heads

    def add(self, key: PartitionKey, table: pl.DataFrame) -> None:
        """Checkpoint finished work.

        The object's name is a digest of its content, so repeating a checkpoint has no effect.
        """
        data = encode(table, Meta(data_version="", code_version=""), {})
        self._objects.add(f"{_folder(key)}{digest(data)}.parquet", data)

    def read(self, key: PartitionKey, schema: Schema) -> pl.DataFrame:
        """Return the rows of all checkpoints of a partition; there may be duplicates.

        A checkpoint that cannot be read is deleted: its work is repeated.
        """
        tables = list[pl.DataFrame]()
        for path in self._objects.list(_folder(key)):
            found = or_error(partial(self._heads.read, path, schema))
            if isinstance(found, Partition):
                tables.append(found.table)
            else:
                logger.warning("%s Its work is repeated.", found)
                self._objects.delete(path)
        return concat(tables, schema)

    def copy(self, key: PartitionKey, to: PartitionKey) -> None:
        """Copy the checkpoints of a partition to another, into which it is split."""
        for path in self._objects.list(_folder(key)):
            if found := self._objects.get(path):
                self._objects.add(f"{_folder(to)}{path.rpartition('/')[2]}", found.data)

    def partitions(self) -> set[tuple[str, ...]]:
        """Return (asset, *parts) of the partitions that have checkpoints."""
        return {tuple(path.split("/")[1:-1]) for path in self._objects.list(f"{FOLDER}/")}

    def clear(self, key: PartitionKey) -> None:
        """Delete the checkpoints of a partition and of those below it.

        It is done once they have been committed. It is not an error if there are none.
        """
        for path in self._objects.list(_folder(key)):
            self._objects.delete(path)


def _folder(key: PartitionKey) -> str:
    return f"{FOLDER}/{key.name}/"
