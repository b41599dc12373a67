"""How the assets present themselves in the UI: owners, tags, columns, lineage, links, freshness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import polars as pl

from rag_assets.adapters.milvus_errors import without_credentials
from rag_assets.adapters.milvus_rows import ROW_FIELDS, SPARSE_FIELD, VECTOR_FIELD
from rag_assets.core.columns import MEANINGS, Column, lineage
from rag_assets.core.pods import work_of
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, SOURCE_FILES
from rag_assets.settings import Settings

VECTOR = {VECTOR_FIELD: "array of float32", SPARSE_FIELD: "sparse vector"}
COLUMNS: Mapping[str, Mapping[str, Any]] = {
    "source_files": SOURCE_FILES,
    "parsed_documents": PARSED_DOCUMENTS,
    "chunks": CHUNKS,
    "embeddings": {"text_digest": CHUNKS["text_digest"], **VECTOR},
    "collection": {name: CHUNKS.get(name, pl.String()) for name in ROW_FIELDS} | VECTOR,
}
"""Asset → column → dtype, or how the UI names it."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the assets say of themselves that comes from the settings.

    Attributes:
        settings: The settings.
        freshness: Of the assets at both ends of the flow; docs/adr/0005 says why of those.
    """

    settings: Settings
    freshness: dg.FreshnessPolicy

    @classmethod
    def of(cls, settings: Settings) -> "Catalog":
        """Take it from the settings."""
        warn, fail = settings.fresh_within
        policy = dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn)
        return cls(settings, policy)

    def presented(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """Return an asset's spec with all that the UI can show of it."""
        name, settings = spec.key.to_user_string(), self.settings
        tags = {
            "rag_assets/alias": settings.alias,
            "rag_assets/runs_on": str(work_of("", [name])),
        }
        parents = [dep.asset_key.to_user_string() for dep in spec.deps]
        shown = spec.merge_attributes(
            owners=settings.owners, tags=tags, metadata=self._metadata(name, parents)
        )
        if name == "source_files":
            shown = shown.replace_attributes(kinds={source_kind(settings.source)})
        ends = name in ("source_files", "collection")
        return shown.replace_attributes(freshness_policy=self.freshness) if ends else shown

    def _metadata(self, name: str, parents: Sequence[str]) -> dict[str, Any]:
        milvus = without_credentials(self.settings.milvus_uri)
        uris = {
            "source_files": self.settings.source,
            "collection": milvus,
            "live_alias": f"{milvus}#{self.settings.alias}",
        }
        metadata: dict[str, Any] = {}
        if name in uris or name in COLUMNS:
            metadata["dagster/uri"] = uris.get(name, f"{self.settings.lake}/{name}/")
        if name in COLUMNS:
            made_from = lineage(
                name, COLUMNS[name], {parent: COLUMNS[parent] for parent in parents}
            )
            metadata["dagster/column_schema"] = column_schema(COLUMNS[name], made_from)
            metadata["dagster/column_lineage"] = column_lineage(made_from)
        return metadata


def source_kind(url: str) -> str:
    """Return the icon of a source: of its kind of store."""
    return "s3" if urlsplit(url).scheme == "s3" else "file"


def column_schema(
    columns: Mapping[str, Any], made_from: Mapping[str, Sequence[Column]]
) -> dg.TableSchema:
    """Return columns with their types, meanings and origins.

    The origins are in `column_lineage` too, which the open-source UI does not draw.
    """
    return dg.TableSchema(
        [
            dg.TableColumn(
                name, _type(dtype), description=_described(name, made_from.get(name, ()))
            )
            for name, dtype in columns.items()
        ]
    )


def column_lineage(made_from: Mapping[str, Sequence[Column]]) -> dg.TableColumnLineage:
    """Return which columns of other assets each column is made from."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(asset), of) for asset, of in inputs]
            for column, inputs in made_from.items()
        }
    )


def _described(column: str, made_from: Sequence[Column]) -> str:
    origins = ", ".join(f"`{asset}.{name}`" for asset, name in made_from)
    return f"{MEANINGS[column]} ← {origins}" if origins else MEANINGS[column]


def table(rows: pl.DataFrame) -> dg.TableMetadataValue:
    """Return rows as a table in the UI."""
    records = [
        dg.TableRecord({name: str(value) for name, value in row.items()})
        for row in rows.iter_rows(named=True)
    ]
    columns = [dg.TableColumn(name) for name in rows.columns]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _type(dtype: Any) -> str:
    """Return a dtype's name, short enough for a table's head."""
    if isinstance(dtype, pl.List):
        return "list"
    return "timestamp" if isinstance(dtype, pl.Datetime) else str(dtype)
