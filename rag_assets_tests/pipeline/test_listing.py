"""Listings of a source in windows and in any order: what is removed, doubted and accepted."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rag_assets.adapters.lake.lake import Meta, PartitionKey
from rag_assets.core.errors import SourceError
from rag_assets.core.names import Asset
from rag_assets.core.sources.removals import RemovalPolicy
from rag_assets.core.tables import SOURCE_FILES
from rag_assets.pipeline.sources.doubt import read_doubt
from rag_assets.pipeline.sources.listing import list_source, look_up
from rag_assets.pipeline.sources.removals import accept_removal
from rag_assets.pipeline.sources.stored_listings import read_files
from rag_assets_tests.support.listing import SHARDS, Listings, Order, by_folder

ORDERS: dict[str, Order] = {"by key": str, "by folder": by_folder, "none": hash}


def names(count: int, folder: str = "") -> list[str]:
    return [f"{folder}{number:04}.md" for number in range(count)]


@pytest.fixture
def full(tmp_path: Path) -> Listings:
    """A hundred documents, listed."""
    created = Listings(tmp_path)
    created.put(*names(100))
    created.pass_over()
    return created


@pytest.mark.parametrize("objects", [None, 10])
def test_an_emptied_source_removes_nothing_and_its_return_ends_the_doubt(
    full: Listings, objects: int | None
) -> None:
    before, objects_before = full.listed(), dict(full.store.objects)
    full.store.objects.clear()

    [*_, emptied] = full.pass_over(objects)
    [*_, again] = full.pass_over(objects)

    assert emptied.doubt is not None
    assert (emptied.doubt.documents, emptied.doubt.listed) == (100, 100)
    assert (emptied.doubt_changed, again.doubt_changed) == (True, False)
    assert not emptied.versions  # so nothing that is derived from the listing is stale
    assert full.listed() == before

    full.store.objects |= objects_before
    [*_, returned] = full.pass_over(objects)

    assert (returned.doubt, returned.doubt_changed) == (None, True)
    assert read_doubt(full.lake) is None
    assert full.marks() == {}


@pytest.mark.parametrize("objects", [None, 10])
def test_additions_and_changes_are_committed_while_a_removal_is_doubted(
    full: Listings, objects: int | None
) -> None:
    full.delete(*names(100)[:70])
    full.put("0099.md", version="2")
    full.put("new.md")

    full.pass_over(objects)

    assert len(full.marks()) == 70
    assert full.versions()["0099.md"] == "2"
    assert "new.md" in full.listed()


def test_an_ordinary_deletion_is_committed_at_once(full: Listings) -> None:
    full.delete(*names(100)[:50])

    [result] = full.pass_over()

    assert result.doubt is None
    assert len(full.listed()) == 50


def test_the_windows_of_a_listing_leak_only_a_few_of_a_mass_removal(full: Listings) -> None:
    """Every window loses two in three, so no window alone would tell."""
    full.delete(*(name for number, name in enumerate(names(100)) if number % 3))

    results = full.pass_over(5)

    assert len(results) > 5
    assert results[-1].doubt is not None
    assert 100 - len(full.listed()) <= RemovalPolicy().documents


def test_a_folder_deleted_from_a_large_source_waits_for_the_end_of_the_listing(
    tmp_path: Path,
) -> None:
    listings = Listings(tmp_path)
    listings.put(*names(60, "a/"), *names(200, "b/"))
    listings.pass_over(20)
    listings.delete(*names(60, "a/"))

    results = listings.pass_over(20)

    assert {Counter(listings.marks().values())["doubted"], results[-1].missing} == {0}
    assert results[0].missing == 60
    assert listings.listed() == set(names(200, "b/"))


def test_an_accepted_removal_is_the_one_that_was_seen(full: Listings) -> None:
    full.delete(*names(100)[:60])
    [result] = full.pass_over()
    assert result.doubt is not None
    full.put(*names(100)[:5])  # some return after it was looked at
    full.delete(*names(100)[60:])  # and the rest goes
    full.pass_over()

    with pytest.raises(SourceError, match="changed since it was looked at"):
        accept_removal(full.lake, full.source, SHARDS, result.doubt.digest)

    assert len(full.listed()) == 100


def test_what_goes_missing_after_a_removal_was_accepted_is_doubted_again(full: Listings) -> None:
    full.delete(*names(100)[:60])
    full.pass_over()
    full.delete(*names(100)[60:])

    accepted = accept_removal(full.lake, full.source, SHARDS)
    [result] = full.pass_over()

    assert sum(report.removed for report in accepted.reports.values()) == 60
    assert result.doubt is not None
    assert (result.doubt.documents, result.doubt.listed) == (40, 40)
    assert len(full.listed()) == 40


def test_what_has_returned_when_a_removal_is_accepted_stays(full: Listings) -> None:
    full.delete(*names(100)[:60])
    full.pass_over()
    full.put(*names(100)[:10], version="2")

    accepted = accept_removal(full.lake, full.source, SHARDS)

    assert sum(report.removed for report in accepted.reports.values()) == 50
    assert full.listed() == set(full.store.objects)
    assert full.versions()["0000.md"] == "2"
    assert full.marks() == {}


def test_a_removal_is_accepted_once(full: Listings) -> None:
    everything = dict(full.store.objects)
    full.store.objects.clear()
    full.pass_over()
    accept_removal(full.lake, full.source, SHARDS)
    full.pass_over()
    assert full.listed() == set()

    assert accept_removal(full.lake, full.source, SHARDS).reports == {}
    full.store.objects |= everything
    full.pass_over()
    full.store.objects.clear()
    [again] = full.pass_over()

    assert again.doubt is not None
    assert len(full.listed()) == 100


def test_a_run_over_some_shards_does_not_leak_a_mass_removal(full: Listings) -> None:
    full.store.objects.clear()

    for shard in SHARDS:
        list_source(full.lake, full.source, [shard], SHARDS)
    assert set(full.marks().values()) == {"waiting"}
    [result] = full.pass_over()

    assert set(full.marks().values()) == {"doubted"}
    assert result.doubt is not None
    assert len(full.listed()) == 100


def test_notified_deletions_are_committed_until_they_are_too_many(full: Listings) -> None:
    full.delete(*names(100)[:70])
    first, flood = set(names(100)[:10]), set(names(100)[10:70])

    some = look_up(full.lake, full.source, first, SHARDS, progress=full.progress)
    rest = look_up(full.lake, full.source, flood, SHARDS, progress=some.progress)

    assert (some.progress.removed, some.missing) == (10, 0)
    assert (rest.progress.removed, rest.missing) == (10, 60)
    full.progress = rest.progress
    [result] = full.pass_over()
    assert result.doubt is not None
    assert (result.doubt.documents, result.doubt.removed) == (60, 10)


def test_the_first_listing_of_an_empty_source_doubts_nothing(tmp_path: Path) -> None:
    [result] = Listings(tmp_path).pass_over()

    assert (result.doubt, result.documents, result.doubt_changed) == (None, 0, False)


def test_a_listing_of_an_earlier_release_is_read_and_not_written_again(full: Listings) -> None:
    for shard in SHARDS:
        key = PartitionKey(Asset.SOURCE_FILES, shard)
        actual = full.lake.read(key, SOURCE_FILES)
        assert isinstance(actual.meta, Meta)
        full.lake.commit(key, actual.table.drop("missing"), actual.meta, actual.token)
    tokens = [full.lake.token(PartitionKey(Asset.SOURCE_FILES, shard)) for shard in SHARDS]

    [result] = full.pass_over()

    assert (result.documents, result.versions) == (100, {})
    assert tokens == [full.lake.token(PartitionKey(Asset.SOURCE_FILES, s)) for s in SHARDS]
    assert read_files(full.lake, SHARDS).schema == pl.Schema(SOURCE_FILES)


keys = st.lists(
    st.from_regex(r"[ab](/[ab])?(-[ab])?(/[ab!-]{1,2})?\.md", fullmatch=True),
    unique=True,
    max_size=30,
)


@settings(max_examples=15)
@given(first=keys, second=keys, objects=st.integers(1, 30), order=st.sampled_from(sorted(ORDERS)))
def test_nothing_is_lost_whatever_the_order_and_however_a_listing_is_cut(
    first: list[str], second: list[str], objects: int, order: str
) -> None:
    """A pass over the source leaves exactly what it has, after any change to it."""
    with TemporaryDirectory() as folder:
        listings = Listings(Path(folder), ORDERS[order], RemovalPolicy(documents=30))
        for found in (first, second, first):
            listings.store.objects = dict.fromkeys(found, "1")
            listings.pass_over(objects)

            assert listings.listed() == set(found)


@settings(max_examples=15)
@given(
    gone=st.sets(st.integers(0, 59)),
    more=st.sets(st.integers(0, 59)),
    objects=st.integers(5, 70),
    accept=st.booleans(),
)
def test_a_removal_is_obeyed_or_doubted_as_a_whole(
    gone: set[int], more: set[int], objects: int, accept: bool
) -> None:
    with TemporaryDirectory() as folder:
        listings, all_names = Listings(Path(folder)), names(60)
        listings.put(*all_names)
        listings.pass_over(objects)
        listings.delete(*(all_names[number] for number in gone))
        [*_, result] = listings.pass_over(objects)

        doubted = len(gone) > 30
        assert (result.doubt is not None) is doubted
        lost = set(all_names) - listings.listed()
        assert lost == {all_names[n] for n in gone} if not doubted else len(lost) <= 20
        if accept:
            accept_removal(listings.lake, listings.source, SHARDS)
            assert listings.listed() == set(listings.store.objects)
        listings.put(*(all_names[number] for number in more))
        listings.pass_over(objects)
        assert listings.listed() >= set(listings.store.objects)
        assert set(listings.marks()).isdisjoint(listings.store.objects)
