"""Twice as many shards: each is split in two, and nothing else moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.identity import shard_keys, shard_number, shard_of
from rag_assets.core.layout import Layout

counts = st.integers(1, 3000)
doublings = st.integers(0, 4)


def grown(begun_with: int, times: int) -> Layout:
    layout = Layout(begun_with, begun_with)
    for _ in range(times):
        layout = layout.doubled
    return layout


@given(st.text(), counts, doublings)
def test_a_document_stays_in_its_shard_or_moves_to_the_one_split_from_it(
    name: str, begun_with: int, times: int
) -> None:
    before = grown(begun_with, times)

    now = before.number(shard_of(name, before.keys))
    later = before.doubled.number(shard_of(name, before.doubled.keys))

    assert now is not None
    assert later in (now, now + before.shards)


@given(counts, doublings)
def test_no_key_changes_when_there_are_more_shards(begun_with: int, times: int) -> None:
    layout = grown(begun_with, times)

    assert layout.doubled.keys[: layout.shards] == layout.keys
    assert len(set(layout.doubled.keys)) == 2 * layout.shards


def test_keys_keep_their_width_beyond_a_thousand_shards() -> None:
    assert Layout(1024, 512).keys[-1] == "s1023"
    assert Layout(1024, 512).keys[7] == "s007" != shard_keys(1024)[7]


@given(st.text(), counts, doublings)
def test_the_lineage_names_every_shard_that_a_document_has_been_in(
    name: str, begun_with: int, times: int
) -> None:
    layout = grown(begun_with, times)
    earlier = [grown(begun_with, n).shards for n in range(times + 1)]

    lineage = layout.lineage(shard_number(name, layout.shards))

    assert set(lineage) == {shard_number(name, shards) for shards in earlier}
    assert lineage == sorted(lineage, reverse=True)


@pytest.mark.parametrize(
    ("setting", "accepted"),
    [(8, True), (16, True), (32, True), (64, False), (4, False), (24, False)],
)
def test_a_setting_is_accepted_that_the_lake_has_or_had(setting: int, accepted: bool) -> None:
    assert Layout(32, 8).accepts(setting) is accepted
