"""Opens what explains documents, for commands and the search service.

What belongs here: the settings' way into `instance/explanation.py`; it is imported late, because
importing Dagster is slow. What does not: the command (`explain.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    ParserResource,
    RetriesResource,
    SourcesResource,
    at_present,
    resolved,
)
from rag_assets.instance.explanation import Explanations
from rag_assets.settings import Settings


@contextmanager
def open_explanations(settings: Settings) -> Iterator[Explanations]:
    """Open the lake, Milvus, the sources, and the Dagster instance of DAGSTER_HOME."""
    settings, _ = at_present(settings)
    with dg.DagsterInstance.get() as instance, resolved(settings, IndexResource).open() as index:
        yield Explanations(
            instance=instance,
            index=index,
            sources=resolved(settings, SourcesResource).open(index),
            retries=resolved(settings, RetriesResource).policy(),
            parser_version=resolved(settings, ParserResource).version,
            chunker_version=resolved(settings, ChunkerResource).version,
        )
