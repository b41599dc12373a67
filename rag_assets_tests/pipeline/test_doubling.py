"""Twice as many shards: nothing is done again, nothing is lost, and it may die at any point."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.errors import ConfigurationError, ReshardedError
from rag_assets.core.identity import shard_of
from rag_assets.core.tables import DOCUMENT_TABLES
from rag_assets.pipeline.staleness import ROWS_COMPARED, read_metas, stale_documents, stale_rows
from rag_assets.pipeline.upkeep.audit import damages
from rag_assets.pipeline.upkeep.doubling import begin_doubling, read_distribution, split_shards
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.streaming import feed_of, streaming
from rag_assets_tests.support.waiting import awaited

NOTHING = {
    "parsing.parsed": 0,
    "chunking.documents_chunked": 0,
    "embedding.computed": 0,
    "embedding.reused": 0,
    "embedding.removed": 0,
    "sync.written": 0,
    "sync.deleted": 0,
}


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """A live model over twelve documents in two shards, one of which has lost a text."""
    pipeline.bind(2)
    pipeline.fill(12)
    pipeline.promote()
    pipeline.write("0.md", document("doc 0 edited"))
    pipeline.run()
    return pipeline


def doubled(pipeline: Pipeline, shards: int) -> int:
    """Double the shards; return the number of rows rewritten."""
    begin_doubling(pipeline.lake, shards)
    return finished(pipeline)


def finished(pipeline: Pipeline) -> int:
    pipeline.bind(2)
    halves = list(split_shards(pipeline.index, [pipeline.target()]))
    assert not [half.problem for half in halves if half.problem]
    return sum(half.rewritten for half in halves)


def assert_doubled(pipeline: Pipeline, shards: int) -> None:
    """Everything is where it belongs, in sync, and nothing is left to do."""
    pipeline.bind(2)
    assert (len(pipeline.shards), pipeline.lake.unsplit) == (shards, False)
    keys = pipeline.shards
    for asset, table in DOCUMENT_TABLES.items():
        for shard in keys:
            rows = pipeline.lake.read(PartitionKey(asset, shard), table.schema).table
            assert {shard_of(i, keys) for i in rows["document_id"]} <= {shard}
    assert all(row["shard"] == shard_of(row["document_id"], keys) for row in pipeline.rows())
    assert pipeline.indexed() == pipeline.expected()
    assert not stale(pipeline)
    assert not list(damages(pipeline.target()))
    assert NOTHING.items() <= pipeline.run().items()


def stale(pipeline: Pipeline) -> list[str]:
    metas = read_metas(pipeline.lake, {*DOCUMENT_TABLES, *ROWS_COMPARED})
    versions = pipeline.parser().version, pipeline.chunker().version
    found = [
        *stale_documents(metas, pipeline.shards, *versions),
        *stale_rows(metas, pipeline.shards, pipeline.embedder.spec),
    ]
    return [pipeline.shards[shard.position] for shard in found]


def test_each_shard_is_split_in_two_and_nothing_is_done_again(filled: Pipeline) -> None:
    embedded, rows = len(filled.embedder.embedded), filled.rows()

    rewritten = doubled(filled, 4)

    assert len(filled.embedder.embedded) == embedded
    moved = [row for row in filled.rows() if row["shard"] in ("s002", "s003")]
    assert rewritten == len(moved) > 0
    assert len(filled.rows()) == len(rows)
    assert_doubled(filled, 4)
    assert sum(read_distribution(filled.index).documents) == 12


def test_two_doublings_in_a_row(filled: Pipeline) -> None:
    doubled(filled, 4)

    doubled(filled, 8)

    assert_doubled(filled, 8)
    assert filled.shards[-1] == "s007"


def test_a_doubling_that_is_done_is_not_done_again(filled: Pipeline) -> None:
    doubled(filled, 4)
    filled.bind(2)

    with crash_at(filled, -1) as writes:
        assert not begin_doubling(filled.lake, 4)
        assert finished(filled) == 0

    assert writes() == 0


def test_shards_can_only_be_doubled_and_one_doubling_at_a_time(filled: Pipeline) -> None:
    with pytest.raises(ConfigurationError, match="to 4, not to 6"):
        begin_doubling(filled.lake, 6)
    begin_doubling(filled.lake, 4)
    filled.bind(2)
    with pytest.raises(ConfigurationError, match="not finished"):
        begin_doubling(filled.lake, 8)


class CrashError(BaseException):
    """The process is gone: nothing may catch it."""


@contextmanager
def crash_at(pipeline: Pipeline, boundary: int) -> Iterator[Callable[[], int]]:
    """Let the process die at its n-th write to the lake or to Milvus; yields how many began."""
    steps = itertools.count()
    begun = [0]

    def dying(effect: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            begun[0] = number = next(steps) + 1
            if number > boundary >= 0:
                raise CrashError
            return effect(*args, **kwargs)

        return step

    with pytest.MonkeyPatch.context() as patch:
        objects = pipeline.lake._objects
        for owner, names in (
            (objects, ("put", "add", "delete")),
            (pipeline.store, ("upsert", "delete", "flush")),
        ):
            for name in names:
                patch.setattr(owner, name, dying(getattr(owner, name)))
        yield lambda: begun[0]


@pytest.mark.parametrize("part", range(3))
def test_a_doubling_killed_at_any_write_is_completed(filled: Pipeline, part: int) -> None:
    embedded = len(filled.embedder.embedded)
    begin_doubling(filled.lake, 4)
    filled.bind(2)
    old = filled.indexed()
    boundary, died = part, True
    shards = 4
    while died:
        died = False
        with crash_at(filled, boundary):
            try:
                finished(filled)
            except CrashError:
                died = True
        assert filled.indexed() == old  # I3: everything can be found
        boundary += 3
    assert len(filled.embedder.embedded) == embedded
    assert_doubled(filled, shards)


def edit(pipeline: Pipeline, round_: int) -> None:
    """Add, change and delete documents, of shards old and new."""
    for number in range(3):
        pipeline.write(f"new {round_} {number}.md", document(f"new {round_} {number}"))
    pipeline.write(f"{3 + round_}.md", document(f"edit {round_}"))
    pipeline.remove(f"{7 + round_}.md")


def test_edits_while_it_runs_come_through(filled: Pipeline) -> None:
    begin_doubling(filled.lake, 4)
    filled.bind(2)
    halves = split_shards(filled.index, [filled.target()])

    for round_ in range(4):
        edit(filled, round_)
        filled.run()
        assert filled.indexed() == filled.expected()
        next(halves)
    assert list(halves) == []

    filled.run()
    assert_doubled(filled, 4)


def test_edits_come_through_a_stream_while_it_runs(filled: Pipeline) -> None:
    begin_doubling(filled.lake, 4)
    filled.bind(2)
    with streaming(filled, feed=feed_of(filled)) as running:
        for round_, _ in enumerate(split_shards(filled.index, [filled.target()])):
            edit(filled, round_)
        awaited(lambda: running.written, "an edit")

    filled.run()  # as the sensors have it done: shards that a run has to bring in sync as a whole
    assert_doubled(filled, 4)


def test_a_process_that_began_before_cannot_list_parse_or_write(filled: Pipeline) -> None:
    old = replace(filled)
    doubled(filled, 4)
    filled.write("3.md", document("edited"))
    filled.run()

    for work in (old.list_all, old.parse_and_chunk_all, old.embed_all, old.sync_all):
        with pytest.raises(ReshardedError, match="start it again"):
            work()

    assert_doubled(filled, 4)


def test_a_document_that_vanishes_between_split_and_sync_leaves_no_orphan(
    filled: Pipeline,
) -> None:
    begin_doubling(filled.lake, 4)
    filled.bind(2)
    moving = [i for i in filled.indexed() if shard_of(i, filled.shards) in filled.shards[2:]]
    filled.remove(moving[0])
    filled.list_all()
    filled.parse_and_chunk_all()
    filled.embed_all()

    assert finished(filled) > 0

    assert_doubled(filled, 4)


def test_queries_find_every_document_at_every_moment(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = filled.indexed()
    moments = 0

    def looking(effect: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal moments
            result = effect(*args, **kwargs)
            assert filled.indexed() == before
            moments += 1
            return result

        return step

    for name in ("upsert", "delete"):
        monkeypatch.setattr(filled.store, name, looking(getattr(filled.store, name)))
    begin_doubling(filled.lake, 4)
    finished(filled)

    assert moments > 0


def test_a_doubling_killed_on_the_full_engine_is_completed_milvus_full(
    tmp_path: Path, milvus_full: str
) -> None:
    with Pipeline.create(tmp_path, milvus_full) as pipeline:
        pipeline.bind(2)
        pipeline.fill(12)
        pipeline.promote()
        begin_doubling(pipeline.lake, 4)
        pipeline.bind(2)
        for boundary in (5, 40, 44, 48):
            with suppress(CrashError), crash_at(pipeline, boundary):
                finished(pipeline)
            assert pipeline.indexed() == pipeline.expected()
        finished(pipeline)
        assert_doubled(pipeline, 4)
