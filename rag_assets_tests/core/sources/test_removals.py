"""Which removals are doubted, and what ends a doubt."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.sources.removals import (
    Doubt,
    Missing,
    Progress,
    RemovalPolicy,
    Verdict,
    judge,
    judge_part,
    judge_window,
    missing_by_folder,
    next_doubt,
)

POLICY = RemovalPolicy()
NOW = datetime(2026, 11, 28, 4, 5, tzinfo=UTC)
OBEYED, DOUBTED = Verdict(None, None), Verdict(Missing.DOUBTED, Missing.DOUBTED)
counts = st.integers(0, 2000)


def doubt(documents: int, listed: int, removed: int = 0) -> Doubt:
    return Doubt(documents, removed, listed, NOW, f"digest of {documents}")


@pytest.mark.parametrize(
    ("missing", "listed", "doubted"),
    [
        (0, 0, False),
        (20, 20, False),  # a small source may be emptied
        (21, 21, True),
        (21, 42, False),  # exactly half
        (22, 43, True),
        (139, 200, True),
        (999, 2000, False),
    ],
)
def test_more_than_half_and_more_than_twenty_documents_are_doubted(
    missing: int, listed: int, doubted: bool
) -> None:
    assert POLICY.doubts(missing, listed) is doubted
    verdict = judge(POLICY, Progress(listed), missing, 0, None)
    assert verdict == (DOUBTED if doubted else OBEYED)


@given(listed=counts, removed=counts, fresh=counts)
def test_removals_before_the_end_of_a_listing_count_at_its_end(
    listed: int, removed: int, fresh: int
) -> None:
    verdict = judge(POLICY, Progress(listed, removed), fresh, 0, None)

    assert (verdict.fresh is None) is not POLICY.doubts(removed + fresh, listed)


@given(fresh=counts, removed=st.integers(0, 30))
def test_the_windows_of_a_listing_remove_no_more_than_a_few_before_its_end(
    fresh: int, removed: int
) -> None:
    verdict = judge_window(POLICY, Progress(10_000, removed), fresh)

    assert (verdict.fresh is None) is (removed + fresh <= POLICY.documents)
    assert verdict.doubted is Missing.DOUBTED


@given(listed=counts, missing=counts, new=counts)
def test_new_documents_do_not_end_a_doubt(listed: int, missing: int, new: int) -> None:
    before = judge(POLICY, Progress(listed), missing, 0, None)
    if before.fresh is None:
        return

    after = judge(POLICY, Progress(listed + new), 0, missing, doubt(missing, listed))

    assert after.doubted is Missing.DOUBTED


@given(listed=st.integers(50, 2000), returned=st.integers(0, 2000))
def test_a_doubt_lasts_until_the_rest_would_not_have_been_doubted(
    listed: int, returned: int
) -> None:
    left = max(0, listed - returned)

    verdict = judge(POLICY, Progress(listed), 0, left, doubt(listed, listed))

    assert (verdict.doubted is None) is not POLICY.doubts(left, listed)


def test_ordinary_deletions_go_on_while_others_are_doubted() -> None:
    before = doubt(600, 1000)

    verdict = judge(POLICY, Progress(1000), 30, 600, before)

    assert verdict == Verdict(None, Missing.DOUBTED)
    assert next_doubt(verdict, before, doubt(600, 1000)) == before


def test_another_mass_removal_joins_the_doubt_and_keeps_its_beginning() -> None:
    before = doubt(600, 1000)
    now = replace(doubt(900, 1100), since=NOW + timedelta(hours=1))

    verdict = judge(POLICY, Progress(1100), 300, 600, before)

    assert verdict == DOUBTED
    assert next_doubt(verdict, before, now) == replace(now, since=NOW)


def test_a_doubt_without_documents_is_over() -> None:
    assert next_doubt(OBEYED, doubt(600, 1000), doubt(0, 1000)) is None


def test_what_was_removed_by_notifications_stays_part_of_the_doubt() -> None:
    first = judge(POLICY, Progress(1000, 300), 250, 0, None)
    began = next_doubt(first, None, doubt(250, 1000, removed=300))

    again = judge(POLICY, Progress(700), 0, 250, began)

    assert (first, again) == (DOUBTED, Verdict(None, Missing.DOUBTED))


@given(missing=st.integers(0, 100), shards=st.integers(1, 10))
def test_some_of_the_shards_are_judged_in_proportion(missing: int, shards: int) -> None:
    verdict = judge_part(POLICY.of_part(shards / 10), Progress(100), missing)

    doubted = missing > 2 * shards and missing > 50
    assert verdict.fresh is (Missing.WAITING if doubted else None)


def test_a_doubt_says_how_many_since_when_and_what_to_do() -> None:
    assert doubt(139, 200).sentence.startswith(
        "139 of 200 documents (70%) have been missing from the source since 2026-11-28 04:05 UTC."
    )
    assert "`rag-assets sources accept-removal`" in doubt(139, 200).sentence


def test_missing_documents_are_counted_by_folder() -> None:
    files = pl.DataFrame(
        {
            "document_id": ["a.md", "x/a.md", "x/b.md", "x/y/a.md", "z/a.md"],
            "missing": [None, "doubted", "doubted", "doubted", None],
        }
    )

    assert missing_by_folder(files).rows() == [("x/", 2, 2), ("x/y/", 1, 1)]
