"""Opens what explains documents, for commands and the search service.

What belongs here: the settings' way into `instance/reports/explanation.py`; it is imported late,
because importing Dagster is slow. What does not: the command (`explain.py`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from rag_assets.cli.index import open_index
from rag_assets.core.reports.explanation import Explanation
from rag_assets.defs.resources import (
    ChunkerResource,
    ParserResource,
    RetriesResource,
    SourcesResource,
    at_present,
    resolved,
)
from rag_assets.instance.reports.explanation import Explanations
from rag_assets.pipeline.explanation import Versions
from rag_assets.settings import Settings


@contextmanager
def open_explanations(instance: dg.DagsterInstance, settings: Settings) -> Iterator[Explanations]:
    """Open the lake, Milvus and the sources, beside an instance that is open."""
    settings, _ = at_present(settings)
    with open_index(settings) as index:
        parser = resolved(settings, ParserResource)
        yield Explanations(
            instance=instance,
            index=index,
            sources=resolved(settings, SourcesResource).open(index),
            retries=resolved(settings, RetriesResource).policy(),
            versions=Versions(
                parser.parser, parser.version, resolved(settings, ChunkerResource).version
            ),
        )


def explained(settings: Settings, document_id: str) -> Explanation:
    """Explain a document, with the Dagster instance of DAGSTER_HOME.

    Raises:
        LakeError: The lake cannot be read.
    """
    with dg.DagsterInstance.get() as instance, open_explanations(instance, settings) as found:
        return found.explain(document_id)
