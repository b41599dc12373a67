"""Looking for documents in the lake: in every object of a shard, whichever asset it belongs to.

What belongs here: what an object holds, by its bytes. What does not: erasing it (`lake.py`).
"""

import io
import re
from collections.abc import Collection, Iterable, Mapping, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import time

import polars as pl

from rag_assets.adapters.lake.checkpoints import FOLDER as CHECKPOINTS
from rag_assets.adapters.lake.files.encoding import NO_PARQUET, decode_head
from rag_assets.adapters.lake.files.parts import KEY, Head
from rag_assets.adapters.lake.heads import each
from rag_assets.adapters.lake.part_store import FOLDER as PARTS
from rag_assets.adapters.lake.set_aside import CORRUPT
from rag_assets.adapters.objects.object_store import INCOMPLETE, FolderStore, ObjectStore

PARQUET = ".parquet"
DEAD = 600.0  # seconds; a writer that lives takes less for one object
VECTORS_OF = "text_digest"
NAMES = (KEY, "first", "last")  # columns with ids: of a table, and of a head


@dataclass(frozen=True, slots=True)
class Held:
    """An object of a shard.

    Attributes:
        path: Its key.
        place: Name of the asset, or of the folder of objects that belong to no partition.
        found: Whether it holds something of the documents, or may.
        loose: Whether it belongs to no partition: work that is not committed, corrupt bytes, and
            parts without a head. What is in it cannot be told by document, so it may hold them.
    """

    path: str
    place: str
    found: bool
    loose: bool = False


def held(objects: ObjectStore, shards: Set[str], ids: Collection[str]) -> list[Held]:
    """Return the objects of some shards, and which of them hold something of documents.

    Dead rows count, and so do parts that no head names any more.

    Raises:
        LakeCorruptionError: A head is damaged.
    """
    paths = [path for path in objects.list("") if not shards.isdisjoint(re.split(r"[/.]", path))]
    partitions = [path for path in paths if path.split("/")[0] not in (CHECKPOINTS, CORRUPT, PARTS)]
    heads = dict(zip(partitions, each(lambda path: _head(objects, path), partitions), strict=True))
    look = partial(_held, objects, heads, named_by(heads.values()), frozenset(ids))
    return [*each(look, paths), *_incomplete(objects)]


def _incomplete(objects: ObjectStore) -> list[Held]:
    """Return what writers to a folder have left when they died, or are writing, of any shard."""
    if not isinstance(objects, FolderStore):
        return []
    return [
        Held(str(path.relative_to(objects.root)), "incomplete files", found=True, loose=age > DEAD)
        for path in objects.root.rglob(f"{INCOMPLETE}*")
        if path.is_file() and (age := _age(path))
    ]


def _age(path: Path) -> float:
    """Return the age of a file in seconds; 0 if it is gone."""
    with suppress(FileNotFoundError):
        return time() - path.stat().st_mtime
    return 0.0


def named_by(heads: Iterable[Head | None]) -> frozenset[str]:
    """Return the objects of the parts that heads name."""
    return frozenset(path for head in heads if head for path in head.objects)


def _held(
    objects: ObjectStore,
    heads: Mapping[str, Head | None],
    named: Set[str],
    ids: Set[str],
    path: str,
) -> Held:
    folder, *key = path.split("/")
    if folder in (CHECKPOINTS, CORRUPT):
        return Held(path, folder, found=True, loose=True)
    if folder != PARTS:
        return Held(path, folder, found=_names(heads[path], ids) or _has_rows(objects, path, ids))
    if path in named:
        found = path.endswith(PARQUET) and _has_rows(objects, path, ids)
        return Held(path, key[0], found)
    return Held(path, key[0], found=True, loose=f"{'/'.join(key[:-1])}{PARQUET}" not in heads)


def _head(objects: ObjectStore, path: str) -> Head | None:
    stored = objects.get(path)
    return decode_head(stored.data, path) if stored else None


def _names(head: Head | None, ids: Set[str]) -> bool:
    """Whether the log of a head names one of the documents."""
    return head is not None and any(not ids.isdisjoint(c.document_ids) for c in head.log)


def _has_rows(objects: ObjectStore, path: str, ids: Set[str]) -> bool:
    """Whether an object has rows of documents, dead ones too; of a head, whether it names them."""
    stored = objects.get(path)
    if stored is None:
        return False
    file = io.BytesIO(stored.data)
    try:
        schema = pl.read_parquet_schema(file)
        names = pl.read_parquet(file, columns=[name for name in schema if name in NAMES])
    except NO_PARQUET:
        return True  # nobody can tell
    if VECTORS_OF in schema and (KEY not in schema or names[KEY].null_count()):
        return True  # vectors of an earlier release, which wrote no documents
    return any(names[column].is_in(list(ids)).any() for column in names.columns)
