"""Metadata: the declared fields and permissions of a shard's documents, by the rules.

They are columns of `parsed_documents`, but nothing is parsed for them: what a document says of
itself, and its sidecar as last read, are kept beside its text.

What belongs here: reading sidecars, and which documents' metadata are computed again. What does
not: the rules (`core/metadata/`), and the commit (`parsing.py`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from rag_assets.adapters.source.interface import DocumentReader, SourceDocument
from rag_assets.core.errors import DocumentGoneError, DocumentTooLargeError
from rag_assets.core.identity import digest
from rag_assets.core.metadata.by_source import RulesBySource
from rag_assets.core.metadata.rules import Kind, Origins, describe
from rag_assets.core.metadata.sidecars import MAX_BYTES, SUFFIX, sidecar_attributes
from rag_assets.core.sources.source_ids import key_of
from rag_assets.core.tables import (
    HAS_TEXT,
    METADATA,
    NO_SIDECAR,
    PARSED_DOCUMENTS,
    SOURCE_FILES,
    concat,
)

Row = dict[str, Any]

RETRY_AFTER = timedelta(minutes=5)  # until a sidecar that could not be read is read again
COMPUTED = [*METADATA, "retry_at"]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """A document's sidecar.

    Attributes:
        version: Its version; empty if there is none.
        content: Its attributes as JSON; None if there are none.
        problem: Why it has none, if it exists.
        unread: Whether it could not be read, so that the content is that of an earlier version.
    """

    version: str = ""
    content: str | None = None
    problem: str = ""
    unread: bool = False


@dataclass(frozen=True)
class Describer:
    """Computes the metadata of documents.

    Attributes:
        source: The source, or all sources, from which sidecars are read.
        rules: The rules.
    """

    source: DocumentReader
    rules: RulesBySource = field(default_factory=RulesBySource)

    def _desired(self, rows: pl.DataFrame, listing: pl.DataFrame) -> pl.DataFrame:
        """Return [document_id, desired_version, listed_sidecar, attributes] of rows with text.

        Args:
            rows: Rows of `parsed_documents`.
            listing: Their rows of `source_files`, and those of their sidecars.
        """
        described = pl.col("describes").alias("document_id")
        sidecars = listing.filter(~NO_SIDECAR).select(described, listed_sidecar="version")
        known = (
            rows.filter(HAS_TEXT)
            .select("document_id")
            .join(listing.select("document_id", "attributes"), on="document_id")
            .join(sidecars, on="document_id", how="left", maintain_order="left")
        )
        versions = [
            self._version(*row)
            for row in known.select("document_id", "attributes", "listed_sidecar").iter_rows()
        ]
        return known.with_columns(desired_version=pl.Series(versions, dtype=pl.String))

    def stale(self, rows: pl.DataFrame, listing: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """Return the rows whose metadata is to be computed again.

        With the columns of `_desired`.
        """
        both = rows.join(self._desired(rows, listing), on="document_id", maintain_order="left")
        due = pl.col("metadata_error").is_not_null() & pl.col("unreadable").is_null()
        due &= (pl.col("retry_at") <= now).fill_null(value=False)
        return both.filter(pl.col("metadata_version").ne_missing(pl.col("desired_version")) | due)

    def described(self, stale: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """Return `document_id` and the columns of metadata of rows that `stale` returns, in order.

        The version is not the desired one if a sidecar was read in another version than is listed.
        """
        rows = stale.rows(named=True)
        sidecars = self._sidecars(rows)
        made = [self._described(row, sidecars[row["document_id"]], now) for row in rows]
        schema = {name: stale.schema[name] for name in ("document_id", *COMPUTED)}
        return pl.DataFrame(made, schema=schema)

    def _described(self, row: Row, sidecar: Sidecar, now: datetime) -> Row:
        attributes: Mapping[str, Any] = json.loads(row["attributes"] or "{}")
        values = {
            Kind.SIDECAR: json.loads(sidecar.content or "{}"),
            Kind.PROPERTY: json.loads(row["properties"] or "{}"),
        }
        problems: dict[Kind, str] = {}
        if sidecar.problem and not (sidecar.unread and sidecar.content):
            problems[Kind.SIDECAR] = f"{row['document_id']}{SUFFIX}: {sidecar.problem}"
        for name, found in attributes.items():
            if isinstance(found, str):
                problems[Kind(name)] = found
            else:
                values[Kind(name)] = found
        rules, key = self.rules.of(row["document_id"]), key_of(row["document_id"])
        metadata = describe(rules, Origins(key, values, problems))
        errors = list(metadata.problems)
        if sidecar.unread and sidecar.content:
            errors.append(
                f"{row['document_id']}{SUFFIX}: {sidecar.problem} Its last content holds."
            )
        version = self._version(row["document_id"], row["attributes"], sidecar.version or None)
        retry = now + RETRY_AFTER if sidecar.unread else None
        return {
            "document_id": row["document_id"],
            "sidecar": sidecar.content,
            "sidecar_version": sidecar.version or None,
            "metadata": None if self.rules.nothing else metadata.json,
            "principals": list(metadata.principals) if rules.permissions else None,
            "metadata_error": "; ".join(errors) or None,
            "metadata_version": version,
            "retry_at": row["retry_at"] if row["unreadable"] is not None else retry,
        }

    def _version(self, document_id: str, attributes: str | None, sidecar: str | None) -> str | None:
        """Return the version of metadata of these inputs; what it says of itself is the row's."""
        if self.rules.nothing:
            return None
        return digest(self.rules.of(document_id).version, attributes or "", sidecar or "")

    def _sidecars(self, rows: list[Row]) -> dict[str, Sidecar]:
        """Return the sidecars of documents, of which only those that changed are read."""
        found = {row["document_id"]: Sidecar() for row in rows}
        if Kind.SIDECAR not in self.rules.kinds:
            return found
        listed = {row["document_id"]: row for row in rows if row["listed_sidecar"] is not None}
        changed = []
        for document_id, row in listed.items():
            if row["sidecar_version"] == row["listed_sidecar"] and row["metadata_error"] is None:
                found[document_id] = Sidecar(row["sidecar_version"], row["sidecar"])
            else:
                changed.append(document_id + SUFFIX)
        for key, result in self.source.read_all(changed).items():
            document_id = key.removesuffix(SUFFIX)
            found[document_id] = _sidecar(result, listed[document_id])
        return found


def wrong_metadata(parsed: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return [document_id, metadata_error] of documents with wrong metadata, by id."""
    columns = ["document_id", "metadata_error"]
    rows = [t.filter(pl.col("metadata_error").is_not_null()).select(columns) for t in parsed]
    return concat(rows, {name: PARSED_DOCUMENTS[name] for name in columns}).sort("document_id")


def orphaned_sidecars(listings: Iterable[pl.DataFrame]) -> pl.DataFrame:
    """Return [document_id, version] of sidecars whose document is not listed, by id."""
    columns = ["document_id", "version"]
    rows = [
        files.filter(~NO_SIDECAR)
        .join(files, left_on="describes", right_on="document_id", how="anti")
        .select(columns)
        for files in listings
    ]
    return concat(rows, {name: SOURCE_FILES[name] for name in columns}).sort("document_id")


def with_metadata(rows: pl.DataFrame, described: pl.DataFrame) -> pl.DataFrame:
    """Return rows with what `Describer.described` returned, which may also be null."""
    if described.is_empty():
        return rows
    others = rows.join(described, on="document_id", how="anti")
    these = rows.drop(COMPUTED).join(described, on="document_id")
    return pl.concat([others, these.select(rows.columns)])


def _sidecar(result: SourceDocument | Exception, row: Row) -> Sidecar:
    """Return a sidecar by the result of reading it; one that cannot be read stays as it was."""
    if isinstance(result, DocumentGoneError):  # since it was listed, which the next listing tells
        return Sidecar()
    version = row["listed_sidecar"]
    if isinstance(result, DocumentTooLargeError):
        return Sidecar(version, problem=str(result))
    if not isinstance(result, SourceDocument):
        return Sidecar(version, row["sidecar"], f"it cannot be read: {result}", unread=True)
    if len(result.content) > MAX_BYTES:
        return Sidecar(result.version, problem=f"it has more than {MAX_BYTES:,} bytes")
    try:
        attributes = sidecar_attributes(result.content)
    except ValueError as error:
        return Sidecar(result.version, problem=str(error))
    return Sidecar(result.version, json.dumps(attributes, sort_keys=True))
