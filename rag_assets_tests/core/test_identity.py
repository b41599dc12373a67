"""Names of things: pinned, because the lake and Milvus hold them."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.identity import chunk_ids, digest, shard_keys, shard_of, text_digest

texts = st.lists(st.text(max_size=8), max_size=12)


def test_the_schemes_are_those_that_stored_data_was_made_with() -> None:
    assert digest("a", b"b") == "4fc56058b4df0ca122be9a2e429541d6"
    assert text_digest("straße") == "22003d29c98fc0e0712e06752aa0ac39"
    assert chunk_ids("a/b.md", ["x", "y", "x"]) == [
        "369e51e94274729cf294989a04cb9bb4",
        "071ae193e1dfbc45e8aba487f4453c57",
        "99a1381f7d64db6c77548a7260cd0b37",
    ]
    assert [shard_of(name, shard_keys(8)) for name in ("a", "b/c.md", "ü")] == [
        "s007",
        "s002",
        "s007",
    ]
    assert shard_keys(2) == ["s000", "s001"]
    assert shard_keys(1001)[-1] == "s1000"


def test_a_digest_tells_where_one_part_ends_and_the_next_begins() -> None:
    assert len({digest("ab", "c"), digest("a", "bc"), digest("abc"), digest("abc", "")}) == 4


@given(texts)
def test_ids_are_unique_within_a_document(found: list[str]) -> None:
    assert len(set(chunk_ids("d", found))) == len(found)


@given(texts, texts, texts)
def test_other_texts_around_a_chunk_do_not_change_its_id(
    before: list[str], after: list[str], own: list[str]
) -> None:
    marked = [f"own {text}" for text in dict.fromkeys(own)]

    around = chunk_ids("d", [*before, *marked, *after])

    assert around[len(before) : len(before) + len(marked)] == chunk_ids("d", marked)


@given(texts.filter(bool))
def test_documents_with_the_same_bytes_stay_two(found: list[str]) -> None:
    assert not set(chunk_ids("a", found)) & set(chunk_ids("b", found))


@given(st.text(), st.integers(1, 50))
def test_a_document_has_one_shard_and_it_is_a_key(name: str, count: int) -> None:
    keys = shard_keys(count)

    assert shard_of(name, keys) in keys
    assert shard_of(name, keys) == shard_of(name, shard_keys(count))


def test_documents_spread_evenly() -> None:
    counts = Counter(shard_of(f"folder/{n}.md", shard_keys(16)) for n in range(16_000))

    assert len(counts) == 16
    assert min(counts.values()) > 850
    assert max(counts.values()) < 1150
