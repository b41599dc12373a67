"""Columns: each has a meaning, and its lineage names columns that exist."""

from rag_assets.core.columns import DERIVED_FROM, MEANINGS, lineage
from rag_assets.core.tables import CHUNKS, PARSED_DOCUMENTS, SOURCE_FILES

TABLES = {"source_files": SOURCE_FILES, "parsed_documents": PARSED_DOCUMENTS, "chunks": CHUNKS}


def test_every_column_has_a_meaning() -> None:
    columns = {column for table in TABLES.values() for column in table}

    assert columns <= set(MEANINGS)


def test_lineage_names_only_columns_that_there_are() -> None:
    for derived_from in DERIVED_FROM.values():
        for inputs in derived_from.values():
            assert all(column in TABLES[asset] for asset, column in inputs)


def test_a_column_comes_from_the_one_of_the_same_name_unless_declared_otherwise() -> None:
    found = lineage("chunks", CHUNKS, {"parsed_documents": PARSED_DOCUMENTS})

    assert found["title"] == [("parsed_documents", "title")]
    assert found["text"] == [("parsed_documents", "markdown")]
    assert "row_digest" not in found
