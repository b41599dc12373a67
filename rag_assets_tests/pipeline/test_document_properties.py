"""What a document says of itself is stored beside its text, and nothing is split or embedded."""

from dataclasses import replace

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.names import Asset
from rag_assets.core.tables import PARSED_DOCUMENTS
from rag_assets_tests.support.pipeline import Pipeline, Work

PROSE = "Der Prüfer öffnet das große Tor erst nach Mitternacht, wenn das Schiff bezahlt hat."


def dues(author: str) -> str:
    return f"---\ntitle: Dues\nzone: 7\nauthor: {author}\ntags: [ä, b]\n---\n{PROSE}\n"


def split_or_embedded(work: Work) -> int:
    return work["chunking.new"] + work["chunking.removed"] + work["embedding.computed"]


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    pipeline.write("dues.md", dues("Ada"))
    pipeline.write("short.txt", "ok")
    pipeline.write("photo.png", b"\x89PNG")
    pipeline.list_all()
    pipeline.parse_and_chunk_all()
    pipeline.build()
    return pipeline


def test_a_row_has_the_properties_as_canonical_json_and_the_language(filled: Pipeline) -> None:
    rows = filled.parsed().select("document_id", "properties", "language").sort("document_id")

    assert rows.rows() == [
        (
            "dues.md",
            '{"author":"Ada","keywords":["ä","b"],"tags":["ä","b"],"title":"Dues","zone":7}',
            "de",
        ),
        ("photo.png", "{}", ""),
        ("short.txt", "{}", ""),
    ]


def test_a_changed_property_splits_and_embeds_nothing(filled: Pipeline) -> None:
    before = filled.parsed().sort("document_id")
    filled.write("dues.md", dues("Grace"))

    work = filled.run()

    after = filled.parsed().sort("document_id")
    assert work["parsing.parsed"] == 1
    assert split_or_embedded(work) == 0
    assert after["content_digest"].equals(before["content_digest"])
    assert '"author":"Grace"' in after["properties"][0]


def test_after_an_upgrade_documents_get_both_columns_and_nothing_is_embedded(
    filled: Pipeline,
) -> None:
    expected = filled.parsed().select("document_id", "properties", "language")
    for shard in filled.shards:
        key = PartitionKey(Asset.PARSED_DOCUMENTS, shard)
        found = filled.lake.read(key, PARSED_DOCUMENTS)
        assert found.meta is not None
        rows = found.table.drop("properties", "language").with_columns(parser=pl.lit("1"))
        filled.lake.commit(key, rows, replace(found.meta, code_version="1"), found.token)
    assert filled.parsed()["language"].null_count() == 3

    work = filled.run()

    assert filled.parsed().select("document_id", "properties", "language").equals(expected)
    assert split_or_embedded(work) == 0
