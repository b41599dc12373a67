"""Staleness: which shards differ from their desired state, by comparing versions alone.

A shard's desired state is given by the data version of its input and the version of the code or
model that processes it; its actual state, by the versions in the footers of its partitions.

What belongs here: comparing the two. What does not: what to do about a stale shard
(`core/scheduling/`).
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf

from rag_assets.adapters.lake.lake import Input, KnownMetas, Lake, Meta
from rag_assets.core.documents.unreadable import RETRY_AT
from rag_assets.core.identity import digest
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.names import Asset
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.tables import FILLED

Metas = Mapping[str, Mapping[tuple[str, ...], Meta]]
"""Asset → parts of the partition key → partition metadata."""

ROWS_COMPARED = (Asset.CHUNKS, Asset.EMBEDDINGS, Asset.COLLECTION)
"""The assets whose metadata `stale_rows` compares."""


def read_metas(
    lake: Lake, assets: Iterable[str], known: KnownMetas | None = None
) -> dict[str, dict[tuple[str, ...], Meta]]:
    """Read the partition metadata of assets; corrupt partitions are left out.

    What is known from an earlier call is not read again; see `Lake.metas`.
    """
    known = {} if known is None else known
    return {asset: lake.metas(asset, known) for asset in assets}


def stale_documents(
    metas: Metas,
    shards: Sequence[str],
    parser_version: str,
    chunker_version: str,
    now: float = -inf,
) -> list[StaleShard]:
    """Return the shards whose chunks are not derived from the current listing by the current code.

    This is decided by partition metadata of `source_files`, `parsed_documents` and `chunks`. The
    chunker's version includes its limits. So are those with a document that could not be read and
    is to be retried by now, in seconds since the epoch; each retry is a desired state of its own.
    """
    stale = []
    for position, shard in enumerate(shards):
        listed = metas[Asset.SOURCE_FILES].get((shard,))
        parsed = metas[Asset.PARSED_DOCUMENTS].get((shard,))
        chunks = metas[Asset.CHUNKS].get((shard,))
        if listed is None:
            continue
        used = parsed.upstream.get(Asset.SOURCE_FILES) if parsed else None
        followed = _changes(chunks.upstream.get(Asset.PARSED_DOCUMENTS) if chunks else None)
        same_code = in_sync = False
        if parsed and chunks:
            versions = (parsed.code_version, chunks.code_version)
            same_code = versions == (parser_version, chunker_version)
            in_sync = (
                same_code
                and used == listed.as_input()
                and chunks.derived_from(Asset.PARSED_DOCUMENTS, parsed)
            )
        desired = [listed.data_version, str(listed.changes), parser_version, chunker_version]
        retry_at = parsed.metrics.get(RETRY_AT, inf) if parsed else inf
        if not in_sync:
            whole = not same_code
            state = digest(*desired)
            stale.append(_stale_shard(position, listed, used, state, followed, whole=whole))
        elif retry_at <= now:
            again = digest(*desired, str(retry_at))[:8]
            stale.append(StaleShard(position, 1, 1, again, followed=followed))
    return stale


def stale_rows(metas: Metas, shards: Sequence[str], spec: ModelSpec) -> list[StaleShard]:
    """Return the shards whose rows in a model's collection do not match the current chunks.

    This is decided by partition metadata of `ROWS_COMPARED`. Rows whose
    vectors were lost are stale too: everything that reads the vectors later needs them.
    """
    stale = []
    for position, shard in enumerate(shards):
        chunks = metas[Asset.CHUNKS].get((shard,))
        rows = metas[Asset.COLLECTION].get((spec.key, shard))
        if chunks is None:
            continue
        used = rows.upstream.get(Asset.CHUNKS) if rows else None
        unread = rows is not None and rows.data_version == FILLED
        lost = rows is not None and (spec.key, shard) not in metas[Asset.EMBEDDINGS]
        in_sync = (
            rows is not None
            and not lost
            and used == chunks.as_input()
            and (rows.data_version, rows.code_version) == (chunks.data_version, spec.signature)
        )
        if not in_sync:
            # `unread` is part of the desired state: reading a filled shard back is separate work.
            desired = digest(chunks.data_version, str(chunks.changes), spec.signature, str(unread))
            whole = used is None or unread or lost
            followed = _changes(used)
            stale.append(_stale_shard(position, chunks, used, desired, followed, whole=whole))
    return stale


def _stale_shard(
    position: int, source: Meta, used: Input | None, desired: str, followed: int, *, whole: bool
) -> StaleShard:
    # A source that was deleted, and made anew, counts from the beginning.
    edits = max(0, source.changes - used.changes) if used else 0
    whole = whole or used is None
    work = source.changes if whole else edits
    return StaleShard(position, work, edits, desired[:8], whole, followed)


def _changes(used: Input | None) -> int:
    return used.changes if used else 0
