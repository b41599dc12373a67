"""Checks of documents, texts and chunks. They read whole tables."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from rag_assets.core.documents.outcomes import Outcomes
from rag_assets.core.documents.quality import (
    cut_off,
    incomplete,
    offenders,
    out_of_bounds,
    tiny_texts,
)
from rag_assets.core.names import Asset, Check, Job
from rag_assets.core.reports.previews import shown
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, concat
from rag_assets.defs.checks.scope import MAX_ROWS, Scope, selected_shards, unread
from rag_assets.defs.metadata import table
from rag_assets.defs.resources import (
    ChunkerResource,
    IndexResource,
    PrivacyResource,
    ThresholdsResource,
)
from rag_assets.models.registry import read_records
from rag_assets.pipeline.documents.parsing import read_quarantined


@dg.asset_check(
    name=Check.QUARANTINE,
    asset=Asset.PARSED_DOCUMENTS,
    description="Documents that could not be parsed: how many, for how long, and why. An error"
    " if their share exceeds RAG_ASSETS_MAX_QUARANTINE_RATE.",
)
def quarantine(
    index: IndexResource, thresholds: ThresholdsResource, privacy: PrivacyResource
) -> dg.AssetCheckResult:
    """List the documents that could not be parsed."""
    opened = index.open()
    rows, documents, problems = read_quarantined(opened.lake, opened.shards)
    rate, visible = rows.height / documents if documents else 0.0, shown(rows, privacy.shows)
    failed = bool(problems) or rate > thresholds.max_quarantine_rate
    age = datetime.now(UTC) - rows["since"].to_list()[0] if rows.height else timedelta()
    hours = max(0.0, age.total_seconds()) / 3600
    return dg.AssetCheckResult(
        passed=rows.is_empty() and not problems,
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        description=(
            f"{rows.height} of {documents} documents are quarantined, the oldest for {hours:.1f} h."
            f" The job {Job.RETRY_QUARANTINED} retries them."
            if rows.height
            else "No document is quarantined."
        )
        + unread(problems),
        metadata={
            "rag_assets/quarantined": rows.height,
            "rag_assets/rate": rate,
            "rag_assets/worst": table(offenders(visible).head(MAX_ROWS)),
            "rag_assets/oldest_hours": hours,
            "rag_assets/documents": table(visible.head(MAX_ROWS)),
        },
    )


@dg.asset_check(
    name=Check.TEXT,
    asset=Asset.PARSED_DOCUMENTS,
    description="Documents that were parsed but have hardly any text, fewer characters than"
    " RAG_ASSETS_MIN_TEXT_CHARACTERS (often a scan, or a page that is rendered by scripts), and"
    " documents of which something is not in the text: a scanned page, an attachment, a chart.",
)
def text(
    config: Scope,
    index: IndexResource,
    thresholds: ThresholdsResource,
    privacy: PrivacyResource,
) -> dg.AssetCheckResult:
    """Find documents with hardly any text, and what is missing from the others."""
    opened, minimum = index.open(), thresholds.min_text_characters
    shards = selected_shards(config, opened.shards)
    parts, problems = opened.lake.read_sound(Asset.PARSED_DOCUMENTS, shards, PARSED_DOCUMENTS)
    parsed = concat((p.table for p in parts.values()), PARSED_DOCUMENTS)
    tiny, lacking = tiny_texts(parsed, minimum), incomplete(parsed)
    documents = lacking["document_id"].n_unique()
    return dg.AssetCheckResult(
        passed=tiny.is_empty() and lacking.is_empty() and not problems,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{Outcomes.of(parsed)}. With fewer than {minimum} characters of text:"
        f" {tiny.height}. With something that is not in the text: {documents}." + unread(problems),
        metadata={
            "rag_assets/tiny": tiny.height,
            "rag_assets/documents": table(shown(tiny, privacy.shows).head(MAX_ROWS)),
            "rag_assets/incomplete": documents,
            "rag_assets/omissions": table(shown(lacking, privacy.shows).head(MAX_ROWS)),
        },
    )


@dg.asset_check(
    name=Check.CHUNK_BOUNDS,
    asset=Asset.CHUNKS,
    description="Chunks that are blank or exceed the limits they were split with.",
)
def chunk_bounds(
    config: Scope, index: IndexResource, chunker: ChunkerResource, privacy: PrivacyResource
) -> dg.AssetCheckResult:
    """Find chunks that exceed their limits."""
    version, limits, opened = chunker.version, chunker.limits(), index.open()
    shards = selected_shards(config, opened.shards)
    parts, problems = opened.lake.read_sound(Asset.CHUNKS, shards, CHUNKS)
    current = [p.table for p in parts.values() if p.meta and p.meta.code_version == version]
    chunks = concat(current, CHUNKS)
    exceeding = out_of_bounds(chunks, limits)
    outdated = f" {len(parts) - len(current)} shards have not been split with these limits yet."
    return dg.AssetCheckResult(
        passed=exceeding.is_empty() and not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{exceeding.height} of {chunks.height} chunks are blank or exceed"
        f" {limits.tokens} tokens or {limits.characters} characters."
        + (outdated if len(current) < len(parts) else "")
        + unread(problems),
        metadata={
            "rag_assets/chunks": chunks.height,
            "rag_assets/out_of_bounds": exceeding.height,
            "rag_assets/worst": table(shown(exceeding, privacy.shows).head(MAX_ROWS)),
        },
    )


@dg.asset_check(
    name=Check.CUT_OFF_BY_MODEL,
    asset=Asset.CHUNKS,
    description="Chunks with more tokens than a model accepts, which ignores the rest. Lower"
    " RAG_ASSETS_CHUNK_TOKENS, or use a model that accepts more.",
)
def cut_off_by_model(config: Scope, index: IndexResource) -> dg.AssetCheckResult:
    """Find chunks that a model truncates."""
    opened = index.open()
    shards = selected_shards(config, opened.shards)
    parts, problems = opened.lake.read_sound(Asset.CHUNKS, shards, CHUNKS)
    chunks = concat((p.table for p in parts.values()), CHUNKS)
    maintained = read_records(opened.lake).maintained
    losses = cut_off(chunks, {model: opened.find_spec(model).max_tokens for model in maintained})
    lost = int(losses["tokens_lost"].sum())
    return dg.AssetCheckResult(
        passed=losses.is_empty() and not problems,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            f"{lost} tokens at the ends of chunks are ignored by {', '.join(losses['model'])}."
            if lost
            else f"{len(maintained)} models read all of {chunks.height} chunks."
        )
        + unread(problems),
        metadata={"rag_assets/tokens_lost": lost, "rag_assets/models": table(losses)},
    )
