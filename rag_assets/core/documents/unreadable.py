"""Documents that cannot be read now: their last readable version stays in the index.

A row of `parsed_documents` whose column `unreadable` is set has the text of the last version that
could be read, if there was one, and states the present problem beside it. It is replaced when the
document can be read, and removed when it is no longer listed. What the listing could not read
already (`problem`) is tried again by every listing; anything else when its row's `retry_at` has
come, which is later the longer the problem lasts.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from rag_assets.core.documents.document import Outcome
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.tables import HAS_TEXT, PARSED_DOCUMENTS

Row = dict[str, Any]

UNREADABLE = pl.col("unreadable").is_not_null()
RETRY_AT = "retry_at"  # also the metric with the earliest one of a partition
KEPT = " The text of its last readable version stays in the index."


def with_last_readable(
    parsed: pl.DataFrame, earlier: pl.DataFrame, retries: RetryPolicy, now: datetime
) -> pl.DataFrame:
    """Return new rows, with the text of an earlier row in those that cannot be read now.

    Args:
        parsed: New rows of `parsed_documents`.
        earlier: The rows that they replace.
        retries: The delays: as long as the problem has lasted, within bounds.
        now: The current time.
    """
    if _all_readable(parsed):
        return parsed
    failed = parsed.filter(UNREADABLE)
    before = earlier.join(failed, on="document_id", how="semi")
    known = {row["document_id"]: row for row in before.iter_rows(named=True)}
    rows = [_merged(row, known.get(row["document_id"]), retries, now)
            for row in failed.iter_rows(named=True)]  # fmt: skip
    return pl.concat([parsed.filter(~UNREADABLE), pl.DataFrame(rows, schema=PARSED_DOCUMENTS)])


def _merged(row: Row, known: Row | None, retries: RetryPolicy, now: datetime) -> Row:
    since = (known and known["unreadable_since"]) or now
    lasted = max((now - since).total_seconds(), retries.initial_delay)
    kept = known if known and Outcome(known["outcome"]).has_text else row
    return kept | {
        "problem": row["problem"],
        "unreadable": row["unreadable"],
        "unreadable_version": row["unreadable_version"],
        "unreadable_since": since,
        RETRY_AT: now + timedelta(seconds=min(lasted, retries.max_delay))
        if row["problem"] is None
        else None,
    }


def as_listed(parsed: pl.DataFrame, parser: str, now: datetime) -> pl.DataFrame:
    """Return rows as they compare with a listing that is to be parsed by a parser's version.

    What could not be read is as it should be as long as the same version is listed. If a retry of
    one of them is due, it is for all: so a shard is not visited once for each.
    """
    if _all_readable(parsed):
        return parsed
    due = parsed.select((pl.col(RETRY_AT) <= now).any()).item()
    return parsed.with_columns(
        version=pl.when(UNREADABLE).then("unreadable_version").otherwise("version"),
        parser=pl.when(UNREADABLE).then(pl.lit("" if due else parser)).otherwise("parser"),
    )


def as_seen(parsed: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the present problem as the outcome, for reports."""
    if _all_readable(parsed):
        return parsed
    kept = pl.when(HAS_TEXT).then(pl.lit(KEPT)).otherwise(pl.lit(""))
    return parsed.with_columns(
        outcome=pl.when(UNREADABLE).then(pl.lit(str(Outcome.UNREADABLE))).otherwise("outcome"),
        error=pl.when(UNREADABLE).then(pl.col("unreadable") + kept).otherwise("error"),
        judged_at=pl.when(UNREADABLE).then("unreadable_since").otherwise("judged_at"),
    )


def _all_readable(parsed: pl.DataFrame) -> bool:
    """Whether nothing is unreadable: the common case, which needs no new columns."""
    return parsed["unreadable"].null_count() == parsed.height


def marked(parsed: pl.DataFrame, document_ids: list[str]) -> pl.DataFrame:
    """Mark documents for another attempt, by whatever run comes next."""
    these = pl.col("document_id").is_in(document_ids)
    at_once = pl.lit(datetime.fromtimestamp(0, UTC), PARSED_DOCUMENTS[RETRY_AT])
    return parsed.with_columns(
        parser=pl.when(these).then(pl.lit("")).otherwise("parser"),
        retry_at=pl.when(these & UNREADABLE).then(at_once).otherwise(RETRY_AT),
    )


def retry_metrics(parsed: pl.DataFrame) -> Mapping[str, float]:
    """Return the metric with the time of the next retry, in seconds since the epoch, if any."""
    first = parsed[RETRY_AT].dt.epoch("us").min()
    return {RETRY_AT: first / 1e6} if isinstance(first, int) else {}
