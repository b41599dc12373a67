"""Problems of documents and chunks, worst first: the evidence of the asset checks."""

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

from rag_assets.core.documents.chunking import ChunkLimits
from rag_assets.core.documents.document import Outcome
from rag_assets.core.tables import HAS_TEXT

TOP = "(top)"  # the folder of documents that are in none


def offenders(quarantined: pl.DataFrame) -> pl.DataFrame:
    """Count quarantined documents [document_id, outcome] by folder and outcome.

    Returns:
        [folder, outcome, documents], largest count first; the folder is the first part of the key.
    """
    inside = pl.col("document_id").str.contains("/", literal=True)
    folder = pl.when(inside).then(pl.col("document_id").str.split("/").list.first())
    return (
        quarantined.group_by(folder.otherwise(pl.lit(TOP)).alias("folder"), "outcome")
        .len("documents")
        .sort("documents", "folder", "outcome", descending=[True, False, False])
    )


def tiny_texts(parsed: pl.DataFrame, characters: int) -> pl.DataFrame:
    """Return parsed documents with less text: [document_id, characters, media_type]."""
    text = pl.col("markdown").str.strip_chars().str.len_chars()
    return (
        parsed.filter(HAS_TEXT)
        .select("document_id", text.alias("characters"), "media_type")
        .filter(pl.col("characters") < characters)
        .sort("characters", "document_id")
    )


def incomplete(parsed: pl.DataFrame) -> pl.DataFrame:
    """Return what documents hold and their texts lack, one row for each omission.

    Returns:
        [document_id, kind, name, reason, read, characters, size]: `read` is the account of the
        document, `size` its size in bytes.
    """
    return (
        parsed.filter(outcome=Outcome.INCOMPLETE)
        .select(
            "document_id",
            "omissions",
            pl.col("parts").map_elements(account, pl.String).alias("read"),
            pl.col("markdown").str.len_chars().alias("characters"),
            "size",
        )
        .explode("omissions")
        .unnest("omissions")
        .select("document_id", "kind", "name", "reason", "read", "characters", "size")
        .sort("document_id", maintain_order=True)
    )


def account(parts: Iterable[Mapping[str, Any]]) -> str:
    """Say how much of a document was read: "3 of 4 pages, 2 attachments"."""
    return ", ".join(
        f"{part['read']} of {part['found']} {part['kind']}s"
        if part["read"] < part["found"]
        else f"{part['found']} {part['kind']}{'' if part['found'] == 1 else 's'}"
        for part in parts
    )


def out_of_bounds(chunks: pl.DataFrame, limits: ChunkLimits) -> pl.DataFrame:
    """Return chunks that are blank or exceed the limits they were cut with.

    Returns:
        [document_id, ordinal, characters, tokens], largest first.
    """
    characters = pl.col("text").str.len_chars()
    wrong = (
        (pl.col("text").str.strip_chars() == "")
        | (characters > limits.characters)
        | (pl.col("tokens") > limits.tokens)
    )
    return (
        chunks.filter(wrong)
        .select("document_id", "ordinal", characters.alias("characters"), "tokens")
        .sort(
            "tokens", "characters", "document_id", "ordinal", descending=[True, True, False, False]
        )
    )


def cut_off(chunks: pl.DataFrame, max_tokens: Mapping[str, int]) -> pl.DataFrame:
    """Return how much of the chunks each model cuts off at its `max_tokens`.

    Tokens are counted by the chunker's tokenizer, which may differ slightly from the model's own.

    Returns:
        [model, max_tokens, chunks, tokens_lost, longest] for each model that cuts off any.
    """
    numbers = ("max_tokens", "chunks", "tokens_lost", "longest")
    losses = []
    for model, limit in max_tokens.items():
        over = chunks["tokens"].filter(chunks["tokens"] > limit)
        if len(over):
            losses.append((model, limit, len(over), (over - limit).sum(), over.max()))
    schema = {"model": pl.String} | dict.fromkeys(numbers, pl.Int64)
    return pl.DataFrame(losses, schema, orient="row")
