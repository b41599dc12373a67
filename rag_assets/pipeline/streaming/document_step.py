"""The step of a stream that parses and splits the documents that changed."""

import logging
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from typing_extensions import override

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.identity import by_shard
from rag_assets.core.names import Asset
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.scheduling.stream import Shards, Waiting, merged, named
from rag_assets.pipeline.documents.chunking import chunk_shard
from rag_assets.pipeline.documents.parsing import parse_shard
from rag_assets.pipeline.staleness import (
    Metas,
    stale_documents,
)
from rag_assets.pipeline.streaming.step import Step

if TYPE_CHECKING:
    from rag_assets.pipeline.streaming.stream import Stream

logger = logging.getLogger(__name__)

DOCUMENTS_COMPARED = (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS)


class DocumentStep(Step):
    """Parses and splits the documents that changed."""

    def __init__(self, stream: "Stream") -> None:
        super().__init__("documents", stream)
        self.lanes = stream.limits.lanes(stream.limits.documents, len(stream.shards))
        self._documents = Waiting(stream.limits.documents)

    @override
    def stale(self, metas: Metas, shards: Sequence[str]) -> list[StaleShard]:
        versions = self.stream.parser.code_version, self.stream.chunker.version
        return stale_documents(metas, shards, *versions, time.time())

    def admit(self, edited: Collection[str], added: Collection[str]) -> None:
        """Have documents worked on, as far as there is room."""
        with self._changed:
            self._documents.admit(edited, added)
            self._changed.notify()

    @override
    def _has_work(self) -> bool:
        return super()._has_work() or len(self._documents) > 0

    @override
    def _take(self) -> Shards:
        return merged(by_shard(self._documents.take(), self.stream.shards), super()._take())

    @override
    def process(self, shards: Shards) -> None:
        for shard, documents in shards.items():
            with self.alone(shard):
                self._process(shard, None if None in documents else named(documents))
                self.stream.chunked({shard: documents})

    @override
    def revoke(self, shard: str, ids: frozenset[str]) -> None:
        self._process(shard, frozenset())  # parses none of them, and takes over their metadata

    def _process(self, shard: str, ids: frozenset[str] | None) -> None:
        stream = self.stream
        keys = {asset: PartitionKey(asset, shard) for asset in DOCUMENTS_COMPARED}
        before = self._metas(keys)
        stale = self.stale(before, [shard])
        if not stale or stale[0].whole:
            return
        self.obeyed[shard] = stale[0].desired
        with stream.writing(keys[Asset.PARSED_DOCUMENTS], before) as tell:
            tell(*parse_shard(stream.lake, stream.parser, shard, stream.limits.micro_batch, ids))
        with stream.writing(keys[Asset.CHUNKS], before) as tell:
            tell(*chunk_shard(stream.lake, stream.chunker, shard))
