"""The ids of documents across sources."""

import polars as pl
from hypothesis import example, given
from hypothesis import strategies as st

from rag_assets.core.sources.keys import key_problem
from rag_assets.core.sources.source_ids import (
    DEFAULT,
    belongs_to,
    document_id,
    key_of,
    keys_in,
    source_of,
    sources_of,
)

NAMES = st.from_regex(r"[a-z0-9]{1,3}(-[a-z0-9]{1,2})?", fullmatch=True) | st.just(DEFAULT)
KEYS = st.text("/a1-.B \né", max_size=8) | st.builds(
    "{}//{}".format, NAMES, st.text("/a", max_size=3)
)
DOCUMENTS = st.tuples(NAMES, KEYS)


@given(DOCUMENTS)
@example((DEFAULT, "hr//a.md"))
@example((DEFAULT, "/hr//a.md"))
@example((DEFAULT, "default//a.md"))
def test_an_id_tells_the_source_and_the_key(document: tuple[str, str]) -> None:
    found = document_id(*document)

    assert (source_of(found), key_of(found)) == document


@given(st.lists(DOCUMENTS, unique=True, max_size=30))
def test_no_two_documents_have_one_id(documents: list[tuple[str, str]]) -> None:
    assert len({document_id(*document) for document in documents}) == len(documents)


@given(KEYS)
def test_a_valid_key_is_its_own_id_in_the_default_source(key: str) -> None:
    if key_problem(key) is None:
        assert document_id(DEFAULT, key) == key


@given(st.lists(DOCUMENTS, max_size=30))
def test_columns_of_ids_are_read_as_single_ids_are(documents: list[tuple[str, str]]) -> None:
    ids = [document_id(*document) for document in documents]
    table = pl.DataFrame({"document_id": ids}, schema={"document_id": pl.String})

    assert table.select(sources_of()).to_series().to_list() == [name for name, _ in documents]
    for source in {name for name, _ in documents}:
        own = table.filter(belongs_to(source)).select(keys_in(source)).to_series().to_list()
        assert own == [key for name, key in documents if name == source]
