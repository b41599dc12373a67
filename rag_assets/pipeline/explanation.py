"""Why a document is, or is not, in the index: looks at it in every step of the pipeline.

Everything is compared as the pipeline itself compares it, so a step is in sync here if a run would
find nothing to do for this document.

What belongs here: looking at the source, the lake and Milvus. What does not: runs of Dagster, which
the caller knows (`Waits`), and the form of an explanation (`core/reports/explanation.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Protocol

import polars as pl

from rag_assets.adapters.lake.lake import Partition, PartitionKey
from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.sources import Sources
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.unreadable import as_listed, as_seen
from rag_assets.core.errors import ConfigurationError, LakeError, SourceError, VectorStoreError
from rag_assets.core.identity import shard_of
from rag_assets.core.metadata.sidecars import SUFFIX, with_sidecars
from rag_assets.core.names import Asset
from rag_assets.core.reports.explanation import Explanation, Facts, State, Step, Wait
from rag_assets.core.sources.keys import key_problem
from rag_assets.core.sources.records import SourceState
from rag_assets.core.sources.removals import Missing
from rag_assets.core.sources.source_ids import key_of, source_of
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, SOURCE_FILES, Schema
from rag_assets.pipeline.collection import ModelCollection, compared
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.vectors import ModelRun

Row = dict[str, Any]
SOURCE, LISTING, PARSING, CHUNKING = "source", "listing", "parsing", "chunking"
METADATA, EMBEDDING, ROWS = "metadata", "embedding", "rows"

STATES = {
    SourceState.PAUSED: "The source {} is paused, so changes in it are not followed. Its documents"
    " stay.",
    SourceState.REMOVING: "The source {} is being removed, with all of its documents.",
    SourceState.NOT_ADDED: "The source {} is declared, but has not been added:"
    " `rag-assets sources add {}`.",
}
DOUBTED = {
    Missing.DOUBTED: "It is missing from the source, with so many others that this is doubted: it"
    " stays until it returns, or the removal is accepted (`rag-assets sources accept-removal`).",
    Missing.WAITING: "It is missing from the source, with many others: the end of this listing"
    " decides whether that is doubted.",
}


class Waits(Protocol):
    """Knows why something has not been done yet."""

    def for_listing(self, source: str) -> Wait:
        """Return why a source has not been listed since."""
        ...

    def for_documents(self, position: int) -> Wait:
        """Return why the documents of a shard have not been parsed and chunked since."""
        ...

    def for_rows(self, model: str, position: int) -> Wait:
        """Return why the rows of a shard have not been embedded and written since."""
        ...


@dataclass(frozen=True, slots=True)
class Versions:
    """The present versions of the code that documents go through.

    Attributes:
        parser: The parser's.
        documents: That of parsed documents: the parser's, and the rules for metadata.
        chunks: The chunker's.
    """

    parser: str
    documents: str
    chunks: str


@dataclass(frozen=True)
class Explainer:
    """Looks at one document.

    Attributes:
        index: The lake and Milvus.
        sources: The sources.
        versions: The present versions of the code.
        waits: Knows what things wait for.
        document_id: The document.
    """

    index: Index
    sources: Sources
    versions: Versions
    waits: Waits
    document_id: str

    def explain(self, collections: Sequence[ModelCollection], live: str) -> Explanation:
        """Look at every step; what cannot be asked is unknown, and fails nothing.

        Args:
            collections: Those that are kept in sync.
            live: Name of the one that queries are answered from; empty if there is none.

        Raises:
            LakeError: The lake cannot be read.
        """
        steps = [self._source(), self._listing(), self._parsing()]
        if self.parsed is not None:
            steps += [self._metadata(), self._chunking()]
        for collection in collections:
            steps += self._in_collection(collection)
        principals = self.parsed["principals"] if self.parsed else None
        return Explanation(self.document_id, self.source_name, self.shard, steps, principals, live)

    @cached_property
    def source_name(self) -> str:
        """The source that the document belongs to."""
        return source_of(self.document_id)

    @cached_property
    def shard(self) -> str:
        """The shard that the document belongs to."""
        return shard_of(self.document_id, self.index.shards)

    @property
    def position(self) -> int:
        """The position of its shard."""
        return list(self.index.shards).index(self.shard)

    @cached_property
    def listed(self) -> Row | None:
        """The document's row of the listing."""
        return _row(self._listing_now, self.document_id)

    @cached_property
    def parsed(self) -> Row | None:
        """The document's row of `parsed_documents`."""
        return _row(self._parsed_now, self.document_id)

    @cached_property
    def chunks(self) -> pl.DataFrame:
        """The document's chunks."""
        return self._chunks_now.table.sort("ordinal")

    # What the lake has of the document and its sidecar, each read once

    @cached_property
    def _listing_now(self) -> Partition:
        return self._read(Asset.SOURCE_FILES, SOURCE_FILES)

    @cached_property
    def _parsed_now(self) -> Partition:
        return self._read(Asset.PARSED_DOCUMENTS, PARSED_DOCUMENTS)

    @cached_property
    def _chunks_now(self) -> Partition:
        return self._read(Asset.CHUNKS, CHUNKS)

    def _read(self, asset: str, schema: Schema) -> Partition:
        ids = {*with_sidecars([self.document_id])}
        return self.index.lake.read(PartitionKey(asset, self.shard), schema, ids=ids)

    def _until_listed(self, message: str, facts: Facts | None = None) -> Step:
        """Return a step that waits for the next listing."""
        return self.waits.for_listing(self.source_name).step(LISTING, message, facts)

    def _later(self, name: str, message: str, facts: Facts | None = None) -> Step:
        """Return a step of the first stage that waits."""
        return self.waits.for_documents(self.position).step(name, message, facts)

    # The steps

    def _source(self) -> Step:
        name, state = self.source_name, self.sources.records.state(self.source_name)
        if name not in self.sources.specs and name not in self.sources.records.records:
            known = ", ".join(self.sources.specs) or "none"
            message = f"There is no source {name!r}; declared are: {known}."
            return Step(SOURCE, State.MISSING, message)
        if problem := self.sources.problem(name):
            return Step(SOURCE, State.FAILED, problem)
        if state in STATES:
            return Step(SOURCE, State.WAITING, STATES[state].format(name, name))
        return Step(SOURCE, State.IN_SYNC, f"It belongs to the source {name}.")

    def _listing(self) -> Step:
        key, about = key_of(self.document_id), self.sources.about(self.document_id)
        if about != self.document_id:
            message = f"It is not a document but the metadata of {about}: ask for that one."
            return Step(LISTING, State.SKIPPED, message)
        if problem := key_problem(key):
            return Step(LISTING, State.FAILED, f"The key cannot be a document's: {problem}")
        source, reason = self._open_source()
        if source and (pattern := source.left_out(key)):
            return self._left_out(pattern)
        found: Row | None = None
        if source:
            found, reason = self._at_source(source)
        if self.listed is None:
            return self._not_listed(found, reason)
        return self._listed_as(self.listed, found, reason)

    def _open_source(self) -> tuple[Source | None, str]:
        """Return the source, or why it cannot be asked."""
        try:
            return self.sources.source(self.source_name), ""
        except (SourceError, ConfigurationError) as error:
            return None, str(error)

    def _at_source(self, source: Source) -> tuple[Row | None, str]:
        """Return what the source has of the document now, or why it does not say."""
        try:
            found = source.look_up([self.document_id], self._listing_now.table)
        except (SourceError, ConfigurationError) as error:
            return None, str(error)
        return next(found.iter_rows(named=True), None), ""

    def _left_out(self, pattern: str) -> Step:
        if self.listed is not None:
            return self._until_listed(f"{pattern} It is listed from before, and will be removed.")
        return Step(LISTING, State.SKIPPED, pattern)

    def _not_listed(self, found: Row | None, unknown: str) -> Step:
        if unknown:
            message = f"It is not listed, and the source cannot be asked: {unknown}"
            return Step(LISTING, State.UNKNOWN, message)
        if found is None:
            message = "It is not listed, and the source does not have it."
            return Step(LISTING, State.MISSING, message)
        return self._until_listed("The source has it, and it is not listed yet.", _facts(found))

    def _listed_as(self, row: Row, found: Row | None, unknown: str) -> Step:
        facts = _facts(row) | {"asset": Asset.SOURCE_FILES, "partition": self.shard}
        if row["missing"]:
            return Step(LISTING, State.WAITING, DOUBTED[Missing(row["missing"])], facts)
        if not unknown and found is None:
            return self._until_listed("The source does not have it any more.", facts)
        if found and found["version"] != row["version"]:
            message = f"The source has version {found['version']} by now."
            return self._until_listed(message, facts)
        if row["problem"]:
            return Step(LISTING, State.FAILED, f"{row['problem']}: {row['error']}", facts)
        doubt = f" Whether the source still has it is unknown: {unknown}" if unknown else ""
        return Step(LISTING, State.IN_SYNC, f"It is listed.{doubt}", facts)

    def _parsing(self) -> Step:
        listed, row = self.listed, self.parsed
        if listed is None and row is None:
            return Step(PARSING, State.MISSING, "There is nothing to parse.")
        if listed is None:
            return self._later(PARSING, "It is parsed and not listed any more: it will be removed.")
        if row is None:
            return self._later(PARSING, "It has not been parsed yet.")
        table = pl.DataFrame([row], schema=PARSED_DOCUMENTS)
        [now] = as_listed(table, self.versions.parser, datetime.now(UTC)).iter_rows(named=True)
        [seen] = as_seen(table).iter_rows(named=True)
        facts: Facts = {
            "outcome": seen["outcome"],
            "media_type": row["media_type"],
            "characters": len(row["markdown"] or ""),
            "version": row["version"],
            "asset": Asset.PARSED_DOCUMENTS,
            "partition": self.shard,
        }
        if now["version"] != listed["version"]:
            return self._later(PARSING, f"Version {row['version']} is parsed.", facts)
        if now["parser"] != self.versions.parser:
            return self._later(PARSING, "It was parsed by another version of the parser.", facts)
        return _outcome(seen, facts)

    def _metadata(self) -> Step:
        row = self.parsed or {}
        sidecar = _row(self._listing_now, self.document_id + SUFFIX)
        facts: Facts = {"metadata": row["metadata"] or "{}", "sidecar": row["sidecar_version"]}
        if self.index.rules.kinds and (sidecar or {}).get("version") != row["sidecar_version"]:
            return self._later(METADATA, "Its sidecar has changed.", facts)
        meta = self._parsed_now.meta
        if meta and meta.code_version != self.versions.documents:
            return self._later(METADATA, "The rules for metadata have changed.", facts)
        if row["metadata_error"]:
            return Step(METADATA, State.FAILED, row["metadata_error"], facts)
        return Step(METADATA, State.IN_SYNC, "Its metadata is as its origins say.", facts)

    def _chunking(self) -> Step:
        parsed, chunks = self.parsed or {}, self.chunks
        meta = self._chunks_now.meta
        version = meta.code_version if meta else ""
        facts: Facts = {
            "chunks": chunks.height,
            "tokens": int(chunks["tokens"].sum()),
            "asset": Asset.CHUNKS,
            "partition": self.shard,
        }
        if not Outcome(parsed["outcome"]).has_text:
            if chunks.is_empty():
                return Step(CHUNKING, State.SKIPPED, "It has no text, so it has no chunks.", facts)
            return self._later(CHUNKING, "Its chunks will be removed.", facts)
        if self.listed is None:
            return self._later(CHUNKING, "Its chunks will be removed.", facts)
        if chunks.is_empty() or {*chunks["content_digest"]} != {parsed["content_digest"]}:
            return self._later(CHUNKING, "Its present text has not been chunked yet.", facts)
        if version != self.versions.chunks:
            return self._later(CHUNKING, "It was chunked by other rules.", facts)
        return Step(CHUNKING, State.IN_SYNC, f"It has {chunks.height:,} chunks.", facts)

    def _in_collection(self, target: ModelCollection) -> Iterator[Step]:
        """Yield what there is of the document in one collection: vectors and rows, if any."""
        model, name = target.spec.key, target.name
        facts: Facts = {"model": model, "collection": name, "partition": f"{model}|{self.shard}"}
        if not self.chunks.is_empty():
            yield self._embedding(target, facts | {"asset": Asset.EMBEDDINGS})
        try:
            step = self._rows(target, facts | {"asset": Asset.COLLECTION})
        except VectorStoreError as error:
            step = Step(ROWS, State.UNKNOWN, str(error), facts)
        if not self.chunks.is_empty() or step.state is not State.IN_SYNC:
            yield step

    def _embedding(self, target: ModelCollection, facts: Facts) -> Step:
        texts = {*self.chunks["text_digest"]}
        run = ModelRun(self.index, target.spec)
        try:
            opened = run.open(self.shard)
        except (LakeError, ConfigurationError) as error:
            return Step(EMBEDDING, State.FAILED, str(error), facts)
        found = run.rows(self.shard, opened, {self.document_id}, ["text_digest"])
        missing = texts - {*found["text_digest"]}
        facts |= {"vectors": len(texts) - len(missing)}
        if missing:
            message = (
                f"{len(missing):,} of {len(texts):,} texts have no vector of {target.spec.key}."
            )
            return self._rows_later(target, EMBEDDING, message, facts)
        message = f"{len(texts):,} texts have a vector of {target.spec.key}."
        return Step(EMBEDDING, State.IN_SYNC, message, facts)

    def _rows(self, target: ModelCollection, facts: Facts) -> Step:
        if not target.exists:
            return self._rows_later(target, ROWS, f"{target.name} has not been created yet.", facts)
        if target.filling:
            return self._rows_later(
                target, ROWS, f"{target.name} is being filled, and cannot be read yet.", facts
            )
        actual = target.actual_rows(self.shard, [self.document_id])
        difference = compared(self.chunks, actual, self.shard)
        facts |= {"rows": actual.height}
        if difference.nothing_to_do:
            return Step(ROWS, State.IN_SYNC, f"{target.name} has {actual.height:,} rows.", facts)
        message = (
            f"{target.name} has {actual.height:,} rows, of which {len(difference.removed):,} are to"
            f" be removed; {difference.make.height:,} are missing or to be rewritten."
        )
        return self._rows_later(target, ROWS, message, facts)

    def _rows_later(self, target: ModelCollection, name: str, message: str, facts: Facts) -> Step:
        """Return a step of the second stage that waits."""
        return self.waits.for_rows(target.spec.key, self.position).step(name, message, facts)


def _row(partition: Partition, document_id: str) -> Row | None:
    found = partition.table.filter(document_id=document_id)
    return next(found.iter_rows(named=True), None)


def _outcome(row: Row, facts: Facts) -> Step:
    """Return the step of a document that is parsed as it should be, with what came of that."""
    outcome = Outcome(row["outcome"])
    message = f"{outcome.replace('_', ' ').capitalize()}. {row['error'] or ''}".strip()
    if outcome.has_text:
        return Step(PARSING, State.IN_SYNC, message, facts)
    if row["retry_at"]:
        message += f" It will be read again at {row['retry_at']:%Y-%m-%d %H:%M} UTC."
    state = State.SKIPPED if outcome is Outcome.SKIPPED else State.FAILED
    return Step(PARSING, state, message, facts)


def _facts(row: Row) -> Facts:
    return {
        "version": row["version"],
        "bytes": row["size"],
        "modified_at": row["modified_at"].isoformat(timespec="seconds"),
    }
