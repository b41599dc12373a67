"""A source that is listed in any order, and the listings of it in a lake of its own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rag_assets.adapters.lake.lake import Lake
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.adapters.source.interface import (
    Pages,
    SourceDocument,
    SourceFile,
    SourceStore,
    everything,
)
from rag_assets.adapters.source.source import WHOLE, Source, Window
from rag_assets.core.identity import shard_keys
from rag_assets.core.reports.listing import BEGINNING, ListingResult
from rag_assets.core.sources.removals import Progress, RemovalPolicy
from rag_assets.pipeline.sources.listing import POLICY, list_source
from rag_assets.pipeline.sources.stored_listings import read_files

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
SHARDS = shard_keys(4)
PAGE = 5

Order = Callable[[str], Any]


def by_folder(key: str) -> Any:
    """The order of SeaweedFS: a folder comes where its name comes, without the slash."""
    return key.split("/")


class AnyOrder(SourceStore):
    """Objects with their versions, listed in pages of `PAGE` in a given order of keys.

    It continues after a key in its own order, as SeaweedFS does.
    """

    at_once = 1

    def __init__(self, order: Order) -> None:
        self.objects: dict[str, str] = {}
        self.order = order

    def pages(self, after: str, enter: Callable[[str], bool] = everything) -> Pages:
        del enter
        keys = sorted(self.objects, key=self.order)
        keys = [key for key in keys if not after or self.order(key) > self.order(after)]
        for start in range(0, len(keys), PAGE):
            yield [self._file(key) for key in keys[start : start + PAGE]]

    def file(self, key: str) -> SourceFile | None:
        return self._file(key) if key in self.objects else None

    def read(self, key: str, limit: int) -> SourceDocument:
        del limit
        return SourceDocument(b"", self.objects[key])

    def uri(self, key: str) -> str:
        return key

    def _file(self, key: str) -> SourceFile:
        return SourceFile(key, self.objects[key], 1, LONG_AGO)


@dataclass
class Listings:
    """A source and its listings, brought up to date as the source sensor does."""

    folder: Path
    order: Order = str
    policy: RemovalPolicy = POLICY
    progress: Progress = BEGINNING
    ordered: bool = True
    store: AnyOrder = field(init=False)

    def __post_init__(self) -> None:
        self.store = AnyOrder(self.order)
        self.lake = Lake(open_object_store(str(self.folder)))
        self.source = Source(self.store, max_bytes=1000)

    def put(self, *keys: str, version: str = "1") -> None:
        self.store.objects |= dict.fromkeys(keys, version)

    def delete(self, *keys: str) -> None:
        for key in keys:
            del self.store.objects[key]

    def pass_over(self, objects: int | None = None) -> list[ListingResult]:
        """List the source from its start to its end, in windows of so many objects."""
        results: list[ListingResult] = []
        after, progress = "", self.progress
        while not results or results[-1].upto is not None:
            window = Window(after, objects) if self.ordered else WHOLE
            result = list_source(
                self.lake,
                self.source,
                SHARDS,
                SHARDS,
                window,
                policy=self.policy,
                progress=progress,
            )
            results.append(result)
            after, progress = result.upto or "", result.progress
        self.progress, self.ordered = BEGINNING, results[-1].ordered
        return results

    def listed(self) -> set[str]:
        return set(read_files(self.lake, SHARDS)["document_id"])

    def versions(self) -> dict[str, str]:
        files = read_files(self.lake, SHARDS)
        return dict(zip(files["document_id"], files["version"], strict=True))

    def marks(self) -> dict[str, str]:
        """Return why documents are listed that are missing."""
        files = read_files(self.lake, SHARDS)
        return {k: m for k, m in zip(files["document_id"], files["missing"], strict=True) if m}
