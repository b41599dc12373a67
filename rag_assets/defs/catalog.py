"""The catalog: owners, tags, columns, lineage, links, partitions and freshness of the assets.

What belongs here: properties of an asset that depend on the settings or on its table. What does
not: metadata of its materialisations (`metadata.py`).
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl

from rag_assets.adapters.milvus.errors import without_credentials
from rag_assets.adapters.milvus.metadata import columns
from rag_assets.adapters.milvus.rows import ROW_FIELDS, SPARSE_FIELD, VECTOR_FIELD
from rag_assets.core.addresses import parse_address
from rag_assets.core.columns import MEANINGS, Column, lineage
from rag_assets.core.metadata.fields import FieldSet
from rag_assets.core.names import SOURCES, Asset, Tag, source_asset
from rag_assets.core.scheduling.pods import work_of
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, SOURCE_FILES
from rag_assets.instance.partitions import partitions_of
from rag_assets.settings import Settings

METADATA = tuple(field.column for field in columns(FieldSet()))
MAX_KINDS = 3  # that Dagster allows
SEARCHABLE = {Asset.PARSED_DOCUMENTS, Asset.CHUNKS, Asset.COLLECTION, Asset.LIVE_ALIAS}
"""What leads to the hits of searches, so that their descriptions lead to the search page."""
KINDS = {"gs": "gcs", "abfs": "azure", "abfss": "azure", "az": "azure"}
"""Scheme of a source's URL → kind of asset, for the icon; by default the same."""

NONE = dg.SpecificPartitionsPartitionMapping([])
"""Depends on an asset, and on none of its partitions."""
VECTOR = {VECTOR_FIELD: "array of float32", SPARSE_FIELD: "sparse vector"}
COLUMNS: Mapping[str, Mapping[str, Any]] = {
    Asset.SOURCE_FILES: SOURCE_FILES,
    Asset.PARSED_DOCUMENTS: PARSED_DOCUMENTS,
    Asset.CHUNKS: CHUNKS,
    Asset.EMBEDDINGS: {name: CHUNKS[name] for name in ("document_id", "text_digest")} | VECTOR,
    Asset.COLLECTION: {name: CHUNKS.get(name, pl.String()) for name in (*ROW_FIELDS, *METADATA)}
    | VECTOR,
}
"""Asset → column → dtype, or the type's name in the UI."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Configures assets by the settings.

    Attributes:
        settings: The settings.
        chunker_version: Version of the chunker, which includes its limits.
        shards: All shards, in order.
    """

    settings: Settings
    chunker_version: str
    shards: Sequence[str]
    source_specs: Mapping[str, SourceSpec]

    def configured(self, assets: Iterable[dg.AssetsDefinition]) -> list[dg.AssetsDefinition]:
        """Return assets with their partitions, backfill policies and presentation."""
        # The same for all assets, because a job over several uses the smallest of them.
        ranges = dg.BackfillPolicy.multi_run(self.settings.shards_per_run)
        with warnings.catch_warnings():
            # Backfill policies are the documented way to give a run several partitions, but
            # Dagster still warns that the argument is in beta, once per asset in every command.
            warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)
            return [
                presented.with_attributes(backfill_policy=ranges)
                if presented.partitions_def
                else presented
                for presented in (asset.map_asset_specs(self.presented) for asset in assets)
            ]

    def sources(self) -> list[dg.AssetSpec]:
        """Return the external assets that stand for the sources that a file declares."""
        if not self.settings.sources_file:  # then `source_files` stands for the one source
            return []
        return [self._source(name, spec) for name, spec in self.source_specs.items()]

    def _source(self, name: str, spec: SourceSpec) -> dg.AssetSpec:
        return dg.AssetSpec(
            source_asset(name),
            description=spec.description or f"The documents at {spec.url}.",
            group_name=SOURCES,
            kinds={_kind(spec)},
            owners=self.settings.owners,
            tags={Tag.SOURCE: name, "rag_assets/alias": self.settings.alias},
            metadata={"dagster/uri": spec.url},
            freshness_policy=self._freshness,
        )

    @property
    def _freshness(self) -> dg.FreshnessPolicy:
        warn, fail = self.settings.fresh_within
        return dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn)

    def presented(self, spec: dg.AssetSpec) -> dg.AssetSpec:
        """Return an asset's spec with everything that the UI can show."""
        name, settings = spec.key.to_user_string(), self.settings
        tags = {
            "rag_assets/alias": settings.alias,
            "rag_assets/runs_on": str(work_of("", [name])),
        }
        parents = [dep.asset_key.to_user_string() for dep in spec.deps]
        parents = [parent for parent in parents if parent in COLUMNS]
        presented = spec.merge_attributes(
            owners=settings.owners, tags=tags, metadata=self._metadata(name, parents)
        )
        if name in SEARCHABLE and settings.search_url:
            link = f"Search page: {settings.search_url}"
            presented = presented.replace_attributes(description=f"{spec.description}\n\n{link}")
        if name == Asset.SOURCE_FILES:
            kinds = set(map(_kind, self.source_specs.values()))
            presented = presented.replace_attributes(kinds=set(sorted(kinds)[:MAX_KINDS]))
            if settings.sources_file:
                deps = [dg.AssetKey(source_asset(name)) for name in self.source_specs]
                presented = presented.replace_attributes(deps=deps)
        if partitions_of(name, self.shards) is None:
            presented = presented.replace_attributes(deps=self._lasting(presented.deps))
        if name == Asset.CHUNKS:
            presented = presented.replace_attributes(code_version=self.chunker_version)
        if name in (Asset.SOURCE_FILES, Asset.COLLECTION):  # docs/adr/0005 explains why these
            presented = presented.replace_attributes(freshness_policy=self._freshness)
        return presented.replace_attributes(partitions_def=partitions_of(name, self.shards))

    def _lasting(self, deps: Iterable[dg.AssetDep]) -> list[dg.AssetDep]:
        """Return dependencies whose changes leave an asset without partitions in sync.

        The alias stays as it is when rows change, and reports follow a schedule: a mark that says
        that they are out of date would be there nearly always, and mean nothing.
        """
        return [
            dg.AssetDep(dep.asset_key, partition_mapping=NONE)
            if partitions_of(dep.asset_key.to_user_string(), self.shards)
            else dep
            for dep in deps
        ]

    def _metadata(self, name: str, parents: Sequence[str]) -> dict[str, Any]:
        milvus = without_credentials(self.settings.milvus_uri)
        uris = {
            Asset.SOURCE_FILES: self.settings.source,
            Asset.COLLECTION: milvus,
            Asset.LIVE_ALIAS: f"{milvus}#{self.settings.alias}",
        }
        metadata: dict[str, Any] = {}
        if name in uris or name in COLUMNS:
            metadata["dagster/uri"] = uris.get(name, f"{self.settings.lake}/{name}/")
        if name in COLUMNS:
            origins = lineage(name, COLUMNS[name], {parent: COLUMNS[parent] for parent in parents})
            metadata["dagster/column_schema"] = column_schema(COLUMNS[name], origins)
            metadata["dagster/column_lineage"] = column_lineage(origins)
        return metadata


def _kind(source: SourceSpec) -> str:
    scheme = parse_address(source.url).scheme
    return KINDS.get(scheme, scheme)


def column_schema(
    columns: Mapping[str, Any], origins: Mapping[str, Sequence[Column]]
) -> dg.TableSchema:
    """Return columns with their types, meanings and origins.

    The origins are also in `column_lineage`, which the open-source UI does not draw.
    """
    return dg.TableSchema(
        [
            dg.TableColumn(name, _type(dtype), description=_described(name, origins.get(name, ())))
            for name, dtype in columns.items()
        ]
    )


def column_lineage(origins: Mapping[str, Sequence[Column]]) -> dg.TableColumnLineage:
    """Return the columns of other assets from which each column is derived."""
    return dg.TableColumnLineage(
        {
            column: [dg.TableColumnDep(dg.AssetKey(asset), of) for asset, of in inputs]
            for column, inputs in origins.items()
        }
    )


def _described(column: str, origins: Sequence[Column]) -> str:
    names = ", ".join(f"`{asset}.{name}`" for asset, name in origins)
    return f"{MEANINGS[column]} ← {names}" if names else MEANINGS[column]


def _type(dtype: Any) -> str:
    if isinstance(dtype, pl.List):
        return "list"
    return "timestamp" if isinstance(dtype, pl.Datetime) else str(dtype)
