"""A Dagster asset graph that keeps a Milvus search index in sync with a bucket of documents.

The public face is what `__all__` names; everything else may change without notice. It is imported
when it is first used, so that importing a part of the package costs no more than that part.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rag_assets.adapters.milvus.hits import Hit
    from rag_assets.clients.service import SearchClient
    from rag_assets.core.errors import RagAssetsError
    from rag_assets.core.metadata.filters import F, Filter
    from rag_assets.serving.question import Around
    from rag_assets.serving.searcher import Searcher
    from rag_assets.settings import Settings, load_settings

__version__ = "0.1.0"
__all__ = [
    "Around",
    "F",
    "Filter",
    "Hit",
    "RagAssetsError",
    "SearchClient",
    "Searcher",
    "Settings",
    "__version__",
    "load_settings",
]

_HOMES = {
    "Around": "rag_assets.serving.question",
    "F": "rag_assets.core.metadata.filters",
    "Filter": "rag_assets.core.metadata.filters",
    "Hit": "rag_assets.adapters.milvus.hits",
    "RagAssetsError": "rag_assets.core.errors",
    "SearchClient": "rag_assets.clients.service",
    "Searcher": "rag_assets.serving.searcher",
    "Settings": "rag_assets.settings",
    "load_settings": "rag_assets.settings",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
