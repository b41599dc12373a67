"""The index as commands open it: an embedded Milvus that is not running is not waited for.

What belongs here: opening. What does not: what commands do with it (`ingestion.py`, `moves.py`).
"""

from dataclasses import replace

from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.cli import services
from rag_assets.defs.resources import IndexResource, resolved
from rag_assets.pipeline.index import Index
from rag_assets.settings import Settings


def open_index(settings: Settings) -> Index:
    """Open the index; see `IndexResource.open` for its errors.

    What needs the embedded Milvus while it is not running fails at once, with the command that
    starts it; a connection would be waited for.
    """
    index = resolved(settings, IndexResource).open()

    def connect() -> MilvusStore:
        services.require_milvus(settings)
        return index.connect()

    return replace(index, connect=connect)
