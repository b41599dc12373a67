"""One corrupt partition costs the work of its shard, and nothing that is indexed is lost (A4)."""

from dataclasses import replace
from itertools import cycle

import pytest

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.adapters.source.source import Window
from rag_assets.core.errors import LakeError, StaleInputError
from rag_assets.core.identity import shard_of
from rag_assets.core.names import Asset
from rag_assets.core.tables import SOURCE_FILES
from rag_assets.models.orphans import find_orphans
from rag_assets.pipeline.counts import PARTITIONED, LakeCounts
from rag_assets.pipeline.documents.chunking import chunk_shard
from rag_assets.pipeline.documents.parsing import read_quarantined
from rag_assets.pipeline.embedding import SharedVectors, embed_shard
from rag_assets.pipeline.sources.listing import list_source, look_up
from rag_assets.pipeline.staleness import stale_documents, stale_rows
from rag_assets.pipeline.sync import fill_shard
from rag_assets.pipeline.upkeep.audit import damages, set_aside_corrupt, unreadable
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.damage import damage
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline, Work

BAD = "s001"
KINDS = ("half", "empty", "garbage")


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    for number in range(12):
        pipeline.write(f"folder/{number}.md", document(f"d{number}"))
    pipeline.list_all()
    pipeline.parse_and_chunk_all()
    pipeline.build()
    return pipeline


def key(asset: str) -> PartitionKey:
    models = (WORDLLAMA,) if asset in (Asset.EMBEDDINGS, Asset.COLLECTION) else ()
    return PartitionKey(asset, *models, BAD)


def names_in_bad_shard(pipeline: Pipeline) -> list[str]:
    names = [f"folder/{number}.md" for number in range(12)]
    return [name for name in names if shard_of(name, pipeline.shards) == BAD]


def stale(pipeline: Pipeline) -> list[int]:
    metas = {asset: pipeline.lake.metas(asset, {}) for asset in PARTITIONED}
    versions = parser_version(), pipeline.chunker().version
    documents = stale_documents(metas, pipeline.shards, *versions)
    rows = stale_rows(metas, pipeline.shards, pipeline.embedder.spec)
    return sorted({shard.position for shard in [*documents, *rows]})


def without_zeros(work: Work, *metrics: str) -> Work:
    return {metric: work[metric] for metric in metrics if work[metric]}


@pytest.mark.parametrize(("asset", "kind"), list(zip(PARTITIONED, cycle(KINDS))))
def test_a_corrupt_partition_is_rebuilt_from_what_it_derives_from(
    filled: Pipeline, asset: str, kind: str
) -> None:
    before = filled.indexed()
    texts = filled.lake.read(key(Asset.CHUNKS), filled.chunks().schema).table["text_digest"]
    damage(filled.lake, key(asset).path, kind)

    work = filled.run()

    expected = {
        Asset.PARSED_DOCUMENTS: {"parsing.parsed": len(names_in_bad_shard(filled))},
        Asset.EMBEDDINGS: {"embedding.computed": texts.n_unique()},
    }
    done = ("listing.removed", "parsing.parsed", "parsing.removed", "embedding.computed")
    assert without_zeros(work, *done, "sync.written", "sync.deleted") == expected.get(asset, {})
    assert filled.indexed() == before == filled.expected()
    assert unreadable(filled.lake) == []
    assert stale(filled) == []
    again = filled.run()
    assert without_zeros(again, *done, "chunking.documents_chunked", "sync.written") == {}


@pytest.mark.parametrize("asset", PARTITIONED)
def test_only_its_shard_is_stale_until_then(filled: Pipeline, asset: str) -> None:
    damage(filled.lake, key(asset).path, "half")

    listed = asset == Asset.SOURCE_FILES  # the next tick lists it anew by itself
    assert stale(filled) == ([] if listed else [filled.shards.index(BAD)])
    [problem] = unreadable(filled.lake)
    assert problem.startswith(f"{key(asset).path} in the lake is corrupt")


def test_reports_and_checks_go_on_without_it(filled: Pipeline) -> None:
    names = names_in_bad_shard(filled)
    damage(filled.lake, key(Asset.PARSED_DOCUMENTS).path, "garbage")

    assert sum(LakeCounts.read(filled.lake, filled.shards).parsed.values()) == 12 - len(names)
    rows, documents, why = read_quarantined(filled.lake, filled.shards)
    assert (rows.height, documents, len(why)) == (0, 12 - len(names), 1)
    assert list(find_orphans(filled.index, filled.registry().read())) == []


@pytest.mark.parametrize("kind", ["half", "deleted"])
def test_a_listing_in_windows_removes_nothing_from_a_shard_whose_listing_was_lost(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("rag_assets.adapters.source.stores.PAGE", 3)
    before = filled.indexed()
    if kind == "deleted":
        filled.lake._objects.delete(key(Asset.SOURCE_FILES).path)
    else:
        damage(filled.lake, key(Asset.SOURCE_FILES).path, kind)

    window = Window("", objects=3)
    first = list_source(filled.lake, filled.source, filled.shards, filled.shards, window)
    work = filled.parse_and_chunk_all()

    assert first.upto is not None
    assert sum(report.removed for report in first.reports.values()) == 0
    assert (work["parsing.removed"], work["parsing.parsed"]) == (0, 0)
    filled.run()
    assert filled.indexed() == before


def test_a_notification_removes_nothing_from_a_shard_whose_listing_was_lost(
    filled: Pipeline,
) -> None:
    [name, *others] = names_in_bad_shard(filled)
    filled.remove(name)
    damage(filled.lake, key(Asset.SOURCE_FILES).path, "empty")

    report = look_up(filled.lake, filled.source, {name}, filled.shards).reports[BAD]

    assert (report.documents, report.removed) == (len(others), 1)


def test_a_lost_record_of_rows_does_not_have_them_imported_twice(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An import replaces nothing, so it needs proof that there are no rows yet."""
    imported = []
    monkeypatch.setattr(MilvusStore, "bulk_import", lambda *_: imported.append(1))
    files = ImportFiles("file:///nowhere", {})
    damage(filled.lake, key(Asset.COLLECTION).path, "empty")

    report, _ = fill_shard(replace(filled, files=files).target(), BAD)

    assert (imported, report.written) == ([], report.rows)


def test_the_audit_sets_aside_what_only_a_whole_read_finds(filled: Pipeline) -> None:
    for asset in (Asset.PARSED_DOCUMENTS, Asset.CHUNKS):
        damage(filled.lake, key(asset).path, "damaged pages")
    assert unreadable(filled.lake) == []

    found = set_aside_corrupt(filled.lake, filled.shards)

    assert len(found) == 2
    assert list(damages(filled.target())) == []
    assert stale(filled) == [filled.shards.index(BAD)]
    filled.run()
    assert stale(filled) == []
    assert filled.indexed() == filled.expected()


def test_a_run_whose_input_is_corrupt_fails_for_its_shard_only(filled: Pipeline) -> None:
    for number in range(9):
        filled.write(f"folder/new{number}.md", document(f"new {number}"))
    filled.list_all()
    filled.parse_and_chunk_all()
    damage(filled.lake, key(Asset.CHUNKS).path, "damaged pages")
    run = filled.model_run()

    shared = SharedVectors.between(run, filled.shards)
    for shard in filled.shards:
        if shard == BAD:
            with pytest.raises(StaleInputError, match="materialise chunks first"):
                embed_shard(run, shard, shared)
        else:
            embed_shard(run, shard, shared)

    chunk_shard(filled.lake, filled.chunker(), BAD)
    embed_shard(run, BAD, shared)
    filled.sync_all()
    assert filled.indexed() == filled.expected()


def test_a_partition_of_another_release_stops_its_shard_with_its_name(filled: Pipeline) -> None:
    path = key(Asset.PARSED_DOCUMENTS).path
    actual = filled.lake.read(key(Asset.PARSED_DOCUMENTS), filled.parsed().schema)
    assert actual.meta is not None
    other = actual.table.rename({"markdown": "text"})
    filled.lake.commit(key(Asset.PARSED_DOCUMENTS), other, actual.meta, actual.token)

    with pytest.raises(LakeError, match=rf"{path} in the lake has columns"):
        filled.parse_and_chunk_all()

    assert filled.lake.read(key(Asset.SOURCE_FILES), SOURCE_FILES).meta is not None
    assert filled.lake._objects.list("corrupt/") == {}
