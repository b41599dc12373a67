"""Documents that are missing but still listed: what comes after the listing leaves them alone."""

from dataclasses import replace

import pytest

from rag_assets.pipeline.documents.parsing import parse_shard
from rag_assets.pipeline.sources.removals import accept_removal
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline


@pytest.fixture
def emptied(pipeline: Pipeline) -> Pipeline:
    """Thirty documents, indexed; then the folder is empty."""
    for number in range(30):
        pipeline.write(f"{number}.md", document(f"doc {number}"))
    pipeline.run()
    for path in pipeline.documents.iterdir():
        path.unlink()
    return pipeline


def test_an_unmounted_folder_changes_nothing_in_the_index(emptied: Pipeline) -> None:
    before = emptied.indexed()

    work = emptied.run()

    assert work["listing.missing"] == 30
    assert (work["parsing.removed"], work["chunking.removed"], work["sync.deleted"]) == (0, 0, 0)
    assert (work["embedding.computed"], work["sync.written"]) == (0, 0)
    assert emptied.indexed() == before


def test_another_parser_does_not_lose_what_cannot_be_read_now(emptied: Pipeline) -> None:
    emptied.list_all()
    emptied.write("new.md", document("new"))
    emptied.list_all()
    newer = replace(emptied.parser(), version="another parser")

    reports = [parse_shard(emptied.lake, newer, shard, 16)[0] for shard in emptied.shards]

    assert sum(report.documents for report in reports) == 31
    assert sum(report.parsed for report in reports) == 1
    again = [parse_shard(emptied.lake, newer, shard, 16)[0] for shard in emptied.shards]
    assert sum(report.parsed for report in again) == 0


def test_an_accepted_removal_empties_the_index_and_its_return_embeds_nothing(
    emptied: Pipeline,
) -> None:
    embedded = len(emptied.embedder.embedded)
    emptied.run()
    accept_removal(emptied.lake, emptied.source, emptied.shards)

    emptied.run()
    assert emptied.rows() == []
    for number in range(30):
        emptied.write(f"{number}.md", document(f"doc {number}"))
    emptied.run()

    assert emptied.indexed() == emptied.expected()
    assert len(emptied.embedder.embedded) == embedded
