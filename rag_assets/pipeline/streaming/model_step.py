"""The step of a stream that embeds new texts with one model and keeps its collection in sync."""

import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import polars as pl
from typing_extensions import override

from rag_assets.adapters.lake.lake import Meta, PartitionKey
from rag_assets.core.names import Asset
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.scheduling.stream import Shards, named, taken
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.embedding import SharedVectors, embed_documents, embed_shard
from rag_assets.pipeline.permissions import enforced, revoke
from rag_assets.pipeline.staleness import (
    ROWS_COMPARED,
    Metas,
    stale_rows,
)
from rag_assets.pipeline.streaming.step import Step
from rag_assets.pipeline.sync import SyncReport, sync_documents, sync_shard
from rag_assets.pipeline.vectors import ModelRun

if TYPE_CHECKING:
    from rag_assets.pipeline.streaming.stream import Stream

logger = logging.getLogger(__name__)


class ModelStep(Step):
    """Embeds the new texts with one model and keeps its collection in sync."""

    def __init__(self, stream: "Stream", target: ModelRun) -> None:
        super().__init__(target.spec.key, stream)
        self.target, self.model = target, target.spec.key
        self.lanes = stream.limits.lanes(stream.limits.chunks, len(stream.shards))

    @override
    def stale(self, metas: Metas, shards: Sequence[str]) -> list[StaleShard]:
        return stale_rows(metas, shards, self.target.spec)

    @override
    def process(self, shards: Shards) -> None:
        started, names = time.monotonic(), list(shards)
        metas: dict[str, dict[tuple[str, ...], Meta]] = {asset: {} for asset in ROWS_COMPARED}
        for shard in names:
            keys = {
                Asset.CHUNKS: PartitionKey(Asset.CHUNKS, shard),
                Asset.EMBEDDINGS: self.target.key(shard),
                Asset.COLLECTION: self._collection.key(shard),
            }
            for asset, known in self._metas(keys).items():
                metas[asset] |= known
        stale = self.stale(metas, names)
        told = [shard for shard in stale if shards[names[shard.position]] != frozenset()]
        takes = [names[shard.position] for shard in taken(told, (), self.lanes)]
        desired = {names[shard.position]: shard.desired for shard in stale}
        left = [names[s.position] for s in stale if not s.whole and names[s.position] not in takes]
        ahead = {shard: ids for shard in left if (ids := named(shards[shard]))}
        for shard in (*takes, *left) if self.enforces_permissions else ():
            with self.alone(shard):  # before anything is embedded
                self.revoke(shard, ahead.get(shard))
                self.obeyed[shard] = desired[shard]
        shared = SharedVectors.between(self.target, takes)
        done: list[tuple[int, SyncReport, pl.DataFrame]] = []
        for shard in (*takes, *ahead):
            with self.alone(shard):
                done.append(self._process(shard, ahead.get(shard), shared, metas))
        if takes or ahead:
            lags = [lag for *_, table in done if table.height for lag in table["lag_seconds"]]
            found = f"; found after {max(lags):.2f} s at most" if lags else ""
            self.stream.say(
                f"{self.model}: {sum(embedded for embedded, *_ in done)} embedded,"
                f" {sum(rows.written for _, rows, _ in done)} rows written,"
                f" {sum(rows.deleted for _, rows, _ in done)} deleted in {_list([*takes, *ahead])}"
                f" ({time.monotonic() - started:.2f} s; shards that wait:"
                f" {self.waiting - len(shards)}{found})"
            )

    @property
    def enforces_permissions(self) -> bool:
        """Whether the model's collection has permissions that are on."""
        return enforced(self._collection)

    @override
    def revoke(self, shard: str, ids: frozenset[str] | None) -> None:
        if revoked := revoke(self._collection, shard, ids):
            self.stream.say(f"{self.model}: {revoked} rows of shard {shard} shown to fewer")

    @property
    def _collection(self) -> ModelCollection:
        return ModelCollection(self.target.index, self.target.spec)

    def _process(
        self, shard: str, ids: frozenset[str] | None, shared: SharedVectors, before: Metas
    ) -> tuple[int, SyncReport, pl.DataFrame]:
        """Bring a shard in sync, or only some of its documents, if a run brings the rest."""
        target, collection, writing = self.target, self._collection, self.stream.writing
        if ids is None:
            with writing(target.key(shard), before) as tell:
                tell(report := embed_shard(target, shard, shared), pl.DataFrame())
            embedded, sync = report.computed, partial(sync_shard, collection, shard)
        else:
            embedded, vectors = embed_documents(target, shard, ids)
            sync = partial(sync_documents, collection, shard, ids, vectors)
        with writing(collection.key(shard), before) as tell:
            rows, lags = sync()
            tell(rows, lags)
        return embedded, rows, lags


def _list(shards: Sequence[str]) -> str:
    return f"{'shard' if len(shards) == 1 else 'shards'} {', '.join(shards)}"
