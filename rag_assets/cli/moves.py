"""What a command would be refused, found before a run begins: a refusal is not a failed run.

What belongs here: asking the rules for a move without making it. What does not: the rules
(`core/models/lifecycle.py`, `core/sources/records.py`), which the run asks again.
"""

from collections.abc import Callable

from rag_assets.cli.index import open_index
from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.sources.records import SourceRecords
from rag_assets.defs.resources import SourcesResource, resolved
from rag_assets.models.registry import ModelRegistry
from rag_assets.pipeline.index import Index
from rag_assets.settings import Settings


def require_model_move(settings: Settings, move: Callable[[Index, Registry], object]) -> None:
    """Ask for a move of the models, as they are now.

    Raises:
        MoveRefusedError: It is refused.
        ConfigurationError: The models file has no such model.
    """
    with open_index(settings) as index:
        move(index, ModelRegistry(index).read())


def require_source_move(settings: Settings, move: Callable[[SourceRecords], object]) -> None:
    """Ask for a move of the sources, as they are now.

    Raises:
        MoveRefusedError: It is refused.
    """
    with open_index(settings) as index:
        move(resolved(settings, SourcesResource).open(index).records)
