"""Previews of a partition for the UI: sample documents, sample chunks, and a size histogram.

Every materialisation stores its previews in the event log for good, so their total size is bounded
by `MAX_BYTES`, whatever the partition contains.
"""

from collections.abc import Callable, Sequence

import polars as pl

from rag_assets.core.display import printable
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.quality import account
from rag_assets.core.documents.unreadable import as_seen
from rag_assets.core.reports.charts import Histogram
from rag_assets.core.tables import shortened

MAX_BYTES = 16_000  # of all previews of one materialisation together
DOCUMENTS = 15
CHUNKS = 3
CELL = 160  # characters
EXCERPT = 500
BINS = 16

Shows = Callable[[str], bool]
"""Whether the UI may show a document, by its id."""
HIDDEN = "No preview: RAG_ASSETS_PREVIEWS is off."


def shown(rows: pl.DataFrame, shows: Shows) -> pl.DataFrame:
    """Return the rows of documents that the UI may show."""
    return rows.filter(_are_shown(rows, shows))


def without_names(rows: pl.DataFrame, shows: Shows) -> pl.DataFrame:
    """Return all rows, without the ids of documents that the UI may not show."""
    named = pl.when(_are_shown(rows, shows)).then("document_id").otherwise(pl.lit(""))
    return rows.with_columns(document_id=named)


def _are_shown(rows: pl.DataFrame, shows: Shows) -> pl.Series:
    return pl.Series([shows(id_) for id_ in rows["document_id"]], dtype=pl.Boolean)


def documents(parsed: pl.DataFrame) -> pl.DataFrame:
    """Return some rows of `parsed_documents`: those not parsed first, then the newest."""
    chosen = as_seen(parsed).sort(
        pl.col("outcome") != Outcome.PARSED, "judged_at", "document_id",
        descending=[True, True, False],
    ).head(DOCUMENTS)  # fmt: skip
    return chosen.select(
        shortened("document_id", CELL),
        "outcome",
        shortened("title", CELL),
        pl.col("markdown").str.len_chars().alias("characters"),
        pl.col("parts").map_elements(account, pl.String).fill_null("").alias("read"),
        shortened("error", CELL).fill_null(""),
    )


def chunks(table: pl.DataFrame) -> str:
    """Return some chunks from across the partition, as Markdown.

    Their text is quoted, not rendered: a document must not be able to load images into the page of
    whoever looks at it.
    """
    if table.is_empty():
        return "No chunks."
    step = max(1, table.height // CHUNKS)
    return "\n\n".join(
        _chunk(row) for row in table.gather_every(step).head(CHUNKS).iter_rows(named=True)
    )


def histogram(values: Sequence[int], bound: int, unit: str) -> str:
    """Return a histogram of values from 0 to a bound, as an image in Markdown.

    Args:
        values: The values; those above the bound are added to the last bar, which is then red.
        bound: The upper end of the histogram.
        unit: The unit of the values, in the plural.
    """
    over = sum(value > bound for value in values)
    counts = [0] * BINS
    for value in values:
        counts[min(BINS - 1, value * BINS // (bound + 1))] += 1
    caption = f"{len(values)} chunks, 0 to {bound} {unit}" + (f", {over} above" if over else "")
    if not values:
        return caption
    drawn = Histogram(caption, counts, ("0", f"{bound} {unit}"), over > 0).inline()
    return f"{drawn}\n\n{caption}"


def _chunk(row: dict[str, object]) -> str:
    text = printable(str(row["text"]))
    shown = text[:EXCERPT] + ("…" if len(text) > EXCERPT else "")
    head = (
        f"{_code(str(row['document_id'])[:CELL])}, chunk {row['ordinal']}, {row['tokens']} tokens"
    )
    heading = f" · {_code(str(row['heading'])[:CELL])}" if row["heading"] else ""
    block = "\n".join(f"    {line}" for line in shown.splitlines())
    return f"{head}{heading}\n\n{block}"


def _code(text: str) -> str:
    """Format a text as inline code, so that Markdown does not render it."""
    return "`" + " ".join(printable(text).split()).replace("`", "'") + "`"
