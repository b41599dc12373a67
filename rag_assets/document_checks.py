"""Checks of texts and chunks. They read whole tables and change nothing."""

import dagster as dg
import polars as pl
from pydantic import Field

from rag_assets.assets import chunks, parsed_documents
from rag_assets.assets.catalog import table
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import shard_keys
from rag_assets.core.quality import cut_off, out_of_bounds, tiny_texts
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS
from rag_assets.model_registry import read_records
from rag_assets.resources import ChunkerResource, LakeResource, ModelsResource
from rag_assets.settings import Settings

SHOWN = 50  # rows of evidence


class Scope(dg.Config):
    """Which shards a check looks at, when it is run by hand."""

    shards: list[str] = Field(default=[], description="For instance s003. Empty: all shards.")


def wanted_shards(scope: Scope, count: int) -> list[str]:
    """Return the shards that a check is to look at.

    Raises:
        ConfigurationError: There is no such shard.
    """
    known = shard_keys(count)
    if unknown := sorted(set(scope.shards) - set(known)):
        raise ConfigurationError(
            f"There is no shard {', '.join(unknown)}: they are {known[0]} to {known[-1]}."
        )
    return scope.shards or known


def build(settings: Settings) -> list[dg.AssetChecksDefinition]:
    """Return the checks."""

    @dg.asset_check(
        asset=parsed_documents.NAME,
        description="Documents that were parsed and have hardly any text: fewer than"
        f" {settings.tiny_characters} characters (RAG_ASSETS_TINY_CHARACTERS). Often a scan, or a"
        " page that is made by scripts.",
    )
    def text(config: Scope, lake: LakeResource) -> dg.AssetCheckResult:
        shards, opened = wanted_shards(config, lake.shards), lake.open()
        parts = opened.read_all(parsed_documents.NAME, shards, PARSED_DOCUMENTS).values()
        parsed = pl.concat([partition.table for partition in parts])
        tiny = tiny_texts(parsed, settings.tiny_characters)
        return dg.AssetCheckResult(
            passed=tiny.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{tiny.height} of {parsed.height} documents have fewer than"
            f" {settings.tiny_characters} characters of text.",
            metadata={
                "rag_assets/tiny": tiny.height,
                "rag_assets/documents": table(tiny.head(SHOWN)),
            },
        )

    @dg.asset_check(
        asset=chunks.NAME,
        description="Chunks that are blank or larger than the limits they were cut by.",
    )
    def chunk_bounds(
        config: Scope, lake: LakeResource, chunker: ChunkerResource
    ) -> dg.AssetCheckResult:
        version, limits = chunker.version(chunker.token_count()), chunker.limits()
        parts = lake.open().read_all(chunks.NAME, wanted_shards(config, lake.shards), CHUNKS)
        cut = [p.table for p in parts.values() if p.meta and p.meta.code_version == version]
        found = pl.concat([pl.DataFrame(schema=CHUNKS), *cut])
        wrong = out_of_bounds(found, limits)
        later = f" {len(parts) - len(cut)} shards were not cut by these limits yet."
        return dg.AssetCheckResult(
            passed=wrong.is_empty(),
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{wrong.height} of {found.height} chunks are blank or exceed"
            f" {limits.tokens} tokens or {limits.characters} characters."
            + (later if len(cut) < len(parts) else ""),
            metadata={
                "rag_assets/chunks": found.height,
                "rag_assets/out_of_bounds": wrong.height,
                "rag_assets/worst": table(wrong.head(SHOWN)),
            },
        )

    @dg.asset_check(
        asset=chunks.NAME,
        description="Chunks with more tokens than a model reads: it does not see their ends. Lower"
        " RAG_ASSETS_CHUNK_TOKENS, or use a model that reads more.",
    )
    def cut_off_by_model(
        config: Scope, lake: LakeResource, models: ModelsResource
    ) -> dg.AssetCheckResult:
        opened = lake.open()
        parts = opened.read_all(chunks.NAME, wanted_shards(config, lake.shards), CHUNKS)
        found = pl.concat([partition.table for partition in parts.values()])
        fed = read_records(opened).fed
        losses = cut_off(found, {model: models.spec(model).max_tokens for model in fed})
        lost = int(losses["tokens_lost"].sum())
        return dg.AssetCheckResult(
            passed=losses.is_empty(),
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{', '.join(losses['model'])} do not see {lost} tokens at chunks' ends."
            if lost
            else f"{len(fed)} models see all of {found.height} chunks.",
            metadata={"rag_assets/tokens_lost": lost, "rag_assets/models": table(losses)},
        )

    return [text, chunk_bounds, cut_off_by_model]
