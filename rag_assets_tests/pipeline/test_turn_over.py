"""A lake of the release before is read as it is, and turned over as its partitions are written."""

import pytest

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.identity import shard_of
from rag_assets.core.names import Asset
from rag_assets.core.tables import DOCUMENT_TABLES, SOURCE_FILES
from rag_assets.pipeline.sources.listing import look_up
from rag_assets.pipeline.upkeep.compaction import compact_lake
from rag_assets_tests.pipeline.test_corrupt_partitions import stale
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.lake_before import whole_partitions, write_as_before
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline, Work

DOCUMENTS = tuple(DOCUMENT_TABLES)
NOTHING = {"parsing.parsed": 0, "embedding.computed": 0, "sync.written": 0, "sync.deleted": 0}


@pytest.fixture
def before(pipeline: Pipeline) -> Pipeline:
    """Twelve documents, indexed, in a lake that the release before has written."""
    pipeline.fill(12)
    pipeline.run()  # stamps of the files
    write_as_before(pipeline.lake, pipeline.embedder.spec)
    return pipeline


def done(work: Work) -> Work:
    return {name: work[name] for name in NOTHING}


def whole(pipeline: Pipeline) -> dict[str, set[tuple[str, ...]]]:
    assets = (*DOCUMENTS, Asset.EMBEDDINGS)
    return {asset: whole_partitions(pipeline.lake, asset) for asset in assets}


def test_it_is_in_sync_as_it_is(before: Pipeline) -> None:
    shards = {(shard,) for shard in before.shards}
    assert whole(before) == dict.fromkeys(DOCUMENTS, shards) | {
        Asset.EMBEDDINGS: {(WORDLLAMA, shard) for shard in before.shards}
    }
    assert stale(before) == []

    assert done(before.run()) == NOTHING
    assert before.indexed() == before.expected()


def test_an_edit_turns_its_shard_over_and_costs_what_it_costs(before: Pipeline) -> None:
    shard = shard_of("3.md", before.shards)
    before.write("3.md", document("doc 3") + "\n\nOne more paragraph, which nobody has read yet.")

    work = before.run()

    assert work["parsing.parsed"] == 1
    assert 0 < work["embedding.computed"] <= 2
    assert work["embedding.reused"] == 0
    others, found = {one for one in before.shards if one != shard}, whole(before)
    assert found[Asset.PARSED_DOCUMENTS] == found[Asset.CHUNKS] == {(one,) for one in others}
    assert found[Asset.EMBEDDINGS] == {(WORDLLAMA, one) for one in others}
    assert before.indexed() == before.expected()
    assert stale(before) == []
    assert done(before.run()) == NOTHING


def test_looking_up_one_document_counts_all_of_its_shard(before: Pipeline) -> None:
    shard = shard_of("3.md", before.shards)
    documents = before.lake.read(PartitionKey(Asset.SOURCE_FILES, shard), SOURCE_FILES).table.height
    assert documents > 1

    found = look_up(before.lake, before.source, {"3.md"}, before.shards)

    assert found.reports[shard].documents == documents


def test_documents_are_removed_and_renamed_in_it(before: Pipeline) -> None:
    before.remove("4.md")
    (before.documents / "5.md").rename(before.documents / "renamed.md")

    work = before.run()

    assert (work["parsing.parsed"], work["embedding.computed"]) == (1, 0)
    assert before.indexed() == before.expected()


def test_compaction_turns_over_what_it_can_and_changes_no_state(before: Pipeline) -> None:
    compact_lake(before.index)

    found = whole(before)
    assert not any(found[asset] for asset in DOCUMENTS)
    assert found[Asset.EMBEDDINGS]  # their documents are only known to the run that writes them
    assert stale(before) == []
    assert done(before.run()) == NOTHING
    before.write("3.md", document("doc 3") + "\n\nOne more paragraph, which nobody has read yet.")
    work = before.run()
    assert work["parsing.parsed"] == 1
    assert 0 < work["embedding.computed"] <= 2
    assert before.indexed() == before.expected()
