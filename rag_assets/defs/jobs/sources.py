"""Jobs of sources: adding, pausing and removing one, and accepting a doubted removal.

Each is a repeatable step of `core/sources/records.py`; docs/sources.md describes them.
"""

from collections.abc import Callable, Mapping

import dagster as dg
from pydantic import Field

from rag_assets.core.errors import SourceError
from rag_assets.core.names import Job, Op, Tag
from rag_assets.core.reports.listing import ListingResult
from rag_assets.core.sources.records import SourceRecords
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.defs.hooks import note_failure
from rag_assets.defs.jobs.launchpad import launchpad
from rag_assets.defs.metadata import listing_events
from rag_assets.defs.resources import IndexResource, SourcesResource
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.sources.doubt import read_doubts
from rag_assets.pipeline.sources.records import change_records
from rag_assets.pipeline.sources.removals import accept_removal, remove_files


class SourceConfig(dg.Config):
    """The source."""

    source: str = Field(description="Name of the source in the sources file.")


class AcceptConfig(dg.Config):
    """The removal to accept."""

    source: str = Field(
        default="", description="Name of the source. Empty: every source with a doubted removal."
    )
    digest: str = Field(
        default="",
        description="Digest of the doubted removal, from the check `removals`: another removal is"
        " refused. Empty: whatever is doubted now.",
    )


@dg.op(name=Op.ADD_SOURCE)
def add(
    context: dg.OpExecutionContext,
    config: SourceConfig,
    index: IndexResource,
    sources: SourcesResource,
) -> None:
    """Record a declared source as added."""
    specs, name = sources.specs(), config.source
    _change(context, name, index.open(), specs, lambda now: now.add(name, specs.get(name)))


@dg.op(name=Op.PAUSE_SOURCE)
def pause(
    context: dg.OpExecutionContext,
    config: SourceConfig,
    index: IndexResource,
    sources: SourcesResource,
) -> None:
    """Record a source as paused."""
    name = config.source
    _change(context, name, index.open(), sources.specs(), lambda now: now.pause(name))


@dg.op(name=Op.RESUME_SOURCE)
def resume(
    context: dg.OpExecutionContext,
    config: SourceConfig,
    index: IndexResource,
    sources: SourcesResource,
) -> None:
    """Record a source as active."""
    name = config.source
    _change(context, name, index.open(), sources.specs(), lambda now: now.resume(name))


@dg.op(name=Op.REMOVE_SOURCE)
def remove(
    context: dg.OpExecutionContext,
    config: SourceConfig,
    index: IndexResource,
    sources: SourcesResource,
) -> None:
    """Record a source as being removed, and remove its documents from the listings."""
    opened, name = index.open(), config.source
    _change(context, name, opened, sources.specs(), lambda now: now.remove(name))
    _report(context, remove_files(opened.lake, name, opened.shards))


@dg.op(name=Op.ACCEPT)
def accept(
    context: dg.OpExecutionContext,
    config: AcceptConfig,
    sources: SourcesResource,
    index: IndexResource,
) -> None:
    """Remove the documents whose removal is doubted from the listing."""
    opened = index.open()
    documents, doubts = sources.open(opened), read_doubts(opened.lake)
    names = [config.source] if config.source else list(doubts)
    if config.digest and not config.source:
        names = [name for name in names if doubts[name].digest == config.digest]
    if not names and doubts:
        raise SourceError(
            "The removal has changed since it was looked at, so nothing was removed. "
            + " ".join(doubt.sentence for doubt in doubts.values())
        )
    for name in names:
        source = documents.source(name)
        _report(context, accept_removal(opened.lake, source, opened.shards, config.digest))
    if not names:
        context.log.info("No removal is doubted, so nothing was removed.")


@dg.job(name=Job.ADD_SOURCE, hooks={note_failure}, config=launchpad(Op.ADD_SOURCE, source=""))
def add_source() -> None:
    """Add a source that the sources file declares: it is listed from the next tick on."""
    add()


@dg.job(name=Job.PAUSE_SOURCE, hooks={note_failure}, config=launchpad(Op.PAUSE_SOURCE, source=""))
def pause_source() -> None:
    """Stop listing a source. Its documents stay in the index as they are."""
    pause()


@dg.job(name=Job.RESUME_SOURCE, hooks={note_failure}, config=launchpad(Op.RESUME_SOURCE, source=""))
def resume_source() -> None:
    """List a paused source again."""
    resume()


@dg.job(name=Job.REMOVE_SOURCE, hooks={note_failure}, config=launchpad(Op.REMOVE_SOURCE, source=""))
def remove_source() -> None:
    """Remove a source and all of its documents from the index. The bucket is not touched."""
    remove()


@dg.job(
    name=Job.ACCEPT_REMOVAL, hooks={note_failure}, config=launchpad(Op.ACCEPT, source="", digest="")
)
def accept_doubted_removal() -> None:
    """Confirm once that the documents whose removal is doubted were removed on purpose."""
    accept()


def _change(
    context: dg.OpExecutionContext,
    name: str,
    index: Index,
    specs: Mapping[str, SourceSpec],
    move: Callable[[SourceRecords], SourceRecords],
) -> None:
    """Change the record of a source; tag the run with it, so that the UI can filter by it."""
    records = change_records(index, specs, move)
    context.instance.add_run_tags(context.run_id, {Tag.SOURCE: name})
    context.log.info("%s is %s.", name, records.state(name))


def _report(context: dg.OpExecutionContext, removed: ListingResult) -> None:
    for event in listing_events(removed.versions, removed.reports):
        context.log_event(event)
    documents = sum(report.removed for report in removed.reports.values())
    context.log.info(
        f"Removed {documents} documents from the listing; the source sensor's next runs remove them"
        " from the index."
    )
