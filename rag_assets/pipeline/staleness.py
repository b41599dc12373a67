"""Which shards are not what they should be: data versions compared, no table read.

What a shard *should* be is named by its input's data version and the version of the code or model
that makes it; what it *is*, by the versions in the footers of its partitions.
"""

from collections.abc import Mapping, Sequence

from rag_assets.adapters.lake.lake import Input, Meta
from rag_assets.core.identity import digest
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.names import Asset
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.pipeline.sync import FILLED

Metas = Mapping[str, Mapping[tuple[str, ...], Meta]]
"""Asset → parts of the partition key → what the partition says of itself."""


def stale_documents(
    metas: Metas, shards: Sequence[str], parser_version: str, chunker_version: str
) -> list[StaleShard]:
    """Return the shards whose chunks are not made from the present listing by the present code.

    Args:
        metas: Of `source_files`, `parsed_documents` and `chunks`.
        shards: All shards, in order.
        parser_version: Of the parser that would run.
        chunker_version: Of the chunker and its limits.
    """
    stale = []
    for position, shard in enumerate(shards):
        listed = metas[Asset.SOURCE_FILES].get((shard,))
        parsed = metas[Asset.PARSED_DOCUMENTS].get((shard,))
        cut = metas[Asset.CHUNKS].get((shard,))
        if listed is None:
            continue
        seen = parsed.upstream.get(Asset.SOURCE_FILES) if parsed else None
        same_code = (
            parsed is not None
            and cut is not None
            and (parsed.code_version, cut.code_version) == (parser_version, chunker_version)
        )
        in_sync = (
            same_code
            and seen == listed.as_input()
            and parsed is not None
            and cut is not None
            and cut.derived_from(Asset.PARSED_DOCUMENTS, parsed)
        )
        if not in_sync:
            desired = digest(listed.data_version, parser_version, chunker_version)
            stale.append(_stale_shard(position, listed, seen, desired, whole=not same_code))
    return stale


def stale_rows(metas: Metas, shards: Sequence[str], spec: ModelSpec) -> list[StaleShard]:
    """Return the shards whose rows in a model's collection are not made from the present chunks.

    Args:
        metas: Of `chunks` and `collection`.
        shards: All shards, in order.
        spec: The model.
    """
    stale = []
    for position, shard in enumerate(shards):
        cut = metas[Asset.CHUNKS].get((shard,))
        rows = metas[Asset.COLLECTION].get((spec.key, shard))
        if cut is None:
            continue
        seen = rows.upstream.get(Asset.CHUNKS) if rows else None
        unread = rows is not None and rows.data_version == FILLED
        in_sync = (
            rows is not None
            and seen == cut.as_input()
            and (rows.data_version, rows.code_version) == (cut.data_version, spec.signature)
        )
        if not in_sync:
            # That it was filled is part of what is wanted next: to read it back is other work.
            desired = digest(cut.data_version, str(cut.changes), spec.signature, str(unread))
            stale.append(_stale_shard(position, cut, seen, desired, whole=seen is None or unread))
    return stale


def _stale_shard(
    position: int, given: Meta, seen: Input | None, desired: str, *, whole: bool
) -> StaleShard:
    edits = given.changes - seen.changes if seen else 0
    return StaleShard(position, given.changes if whole else edits, edits, desired[:8])
