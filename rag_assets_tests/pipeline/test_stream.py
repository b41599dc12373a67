"""Changes as they arrive, by the threads of one stream over a real folder and Milvus."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from rag_assets.adapters.embedders.embedder import load_embedder
from rag_assets.adapters.lake.lake import Lake, LakeMemory
from rag_assets.adapters.source.feeds import Hint
from rag_assets.core.errors import EmbeddingUnavailableError
from rag_assets.core.identity import shard_of
from rag_assets.core.models.vectors import Encoded
from rag_assets.core.names import Asset
from rag_assets.core.scheduling.lanes import InFlight, Lane
from rag_assets.pipeline.streaming import intake
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import CountingEmbedder, Pipeline, live_on, wordllama_spec
from rag_assets_tests.support.streaming import LIMITS, feed_of, streaming
from rag_assets_tests.support.waiting import awaited


@pytest.fixture
def live(tmp_path: Path, milvus_lite: str) -> Iterator[Pipeline]:
    with live_on(tmp_path, milvus_lite) as created:
        created.embedder.embedded.clear()
        yield created


def await_sync(*models: Pipeline) -> None:
    awaited(lambda: all(m.indexed() == m.expected() for m in models), "the index to be in sync")


def test_an_edit_is_found_and_only_its_text_is_embedded(live: Pipeline) -> None:
    with streaming(live, feed=feed_of(live)) as running:
        live.write("3.md", "# Edited\n\nOne new sentence.\n")
        await_sync(live)

    assert live.embedder.embedded == ["# Edited\n\nOne new sentence."]
    shard = shard_of("3.md", live.shards)
    assert [written.key.asset for written in running.written] == [
        Asset.PARSED_DOCUMENTS,
        Asset.CHUNKS,
        Asset.EMBEDDINGS,
        Asset.COLLECTION,
    ]
    assert {written.key.parts[-1] for written in running.written} == {shard}
    assert len(running.said) == 1
    assert "1 embedded, 1 rows written" in running.said[0]
    assert "found after" in running.said[0]


def test_a_new_document_is_found_and_a_deleted_one_is_not(live: Pipeline) -> None:
    with streaming(live, feed=feed_of(live)):
        live.write("new.md", document("new"))
        live.remove("0.md")
        await_sync(live)

    assert "new.md" in live.indexed()
    assert "0.md" not in live.indexed()


def test_a_renamed_document_is_not_embedded_again(live: Pipeline) -> None:
    other = next(
        f"renamed-{n}.md" for n in range(99) if in_shard_of(live, "1.md", f"renamed-{n}.md")
    )
    with streaming(live, feed=feed_of(live)):
        (live.documents / "1.md").rename(live.documents / other)
        await_sync(live)

    assert live.embedder.embedded == []


def in_shard_of(live: Pipeline, one: str, other: str) -> bool:
    return shard_of(one, live.shards) == shard_of(other, live.shards)


def test_a_file_that_is_only_touched_costs_no_embedding(live: Pipeline) -> None:
    with streaming(live, feed=feed_of(live)) as running:
        (live.documents / "1.md").touch()
        live.list_all()  # not every file system tells of it
        awaited(
            lambda: any(w.key.asset == Asset.PARSED_DOCUMENTS for w in running.written),
            "its new time to be noted",
        )

    assert live.embedder.embedded == []


def test_many_new_documents_are_left_to_bulk_runs_while_edits_go_on(live: Pipeline) -> None:
    with streaming(live, feed=feed_of(live)):
        for number in range(40):
            live.write(f"many/{number}.md", document(f"many {number}"))
        live.write("3.md", "# Edited\n\nDuring the import.\n")
        awaited(
            lambda: live.indexed().get("3.md") == ["# Edited\n\nDuring the import."],
            "the edit to be found",
        )

    listed = {row["document_id"] for row in live.lake_files()}
    assert sum(name.startswith("many/") for name in listed) == 40  # accounted for
    assert sum(name.startswith("many/") for name in live.indexed()) <= 2 * LIMITS.documents
    live.run()  # as the bulk runs do
    assert live.indexed() == live.expected()


def test_edits_go_on_in_a_shard_that_waits_for_its_bulk_run(live: Pipeline) -> None:
    for number in range(40):
        live.write(f"many/{number}.md", document(f"many {number}"))
    live.list_all()
    live.parse_and_chunk_all()
    with streaming(live, feed=feed_of(live), limits=replace(LIMITS, chunks=5)) as running:
        live.write("3.md", "# Edited\n\nDuring the import.\n")
        live.remove("0.md")
        awaited(
            lambda: (
                live.indexed().get("3.md") == ["# Edited\n\nDuring the import."]
                and "0.md" not in live.indexed()
            ),
            "the edits to be found",
        )

    assert live.embedder.embedded == ["# Edited\n\nDuring the import."]
    assert not any(name.startswith("many/") for name in live.indexed())
    assert Asset.COLLECTION in {written.key.asset for written in running.written}
    assert any("found after" in sentence for sentence in running.said)
    live.run()  # as the bulk runs do
    assert live.indexed() == live.expected()


def test_shards_that_were_never_loaded_are_left_to_their_load(
    tmp_path: Path, milvus_lite: str
) -> None:
    with Pipeline.create(tmp_path, milvus_lite) as empty:
        empty.write("a.md", document("a"))
        empty.list_all()
        empty.target().ensure()
        with streaming(empty, feed=feed_of(empty)) as running:
            empty.write("b.md", document("b"))
            awaited(lambda: len(empty.lake_files()) == 2, "both to be listed")

        assert running.written == []
        assert empty.indexed() == {}


def test_what_another_process_has_listed_is_found_without_a_hint(live: Pipeline) -> None:
    with streaming(live, feed=Silent()):
        live.write("3.md", "# Edited\n\nWithout a hint.\n")
        live.list_all()  # as the source sensor does
        await_sync(live)


class Silent:
    """A feed that misses everything."""

    def hints(self, stop: threading.Event, _: int) -> Iterator[None]:
        stop.wait()
        yield from ()

    def acknowledge(self, _: object) -> None:
        pass


@dataclass
class Behind(Silent):
    """A feed that names one document after another, and the ones that matter last."""

    names: list[str]
    more: bool = True
    wait: threading.Event = field(default_factory=threading.Event)

    def hints(self, stop: threading.Event, _: int) -> Iterator[Hint]:
        self.wait.wait()
        for name in self.names:
            yield Hint(frozenset({name}), more=self.more)
        stop.wait()


def test_behind_a_backlog_of_hints_the_source_is_listed(live: Pipeline) -> None:
    feed = Behind(["8.md", "9.md", "10.md"])
    with streaming(live, feed=feed, limits=replace(LIMITS, look_seconds=600)):
        live.write("3.md", "# Edited\n\nIts hint is still to come.\n")
        live.remove("0.md")
        feed.wait.set()
        await_sync(live)


def test_a_source_that_is_long_to_list_is_looked_up_behind_a_backlog(
    live: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "OBJECTS_A_SECOND", 0.1)
    feed = Behind(["8.md", "9.md", "10.md", "11.md", "3.md"])
    with streaming(live, feed=feed, limits=replace(LIMITS, look_seconds=600)):
        live.write("3.md", "# Edited\n\nIts hint comes last.\n")
        live.write("4.md", "# Edited\n\nIts hint never comes.\n")
        feed.wait.set()
        awaited(lambda: live.indexed()["3.md"] == live.expected()["3.md"], "the edit named")

    assert live.indexed()["4.md"] != live.expected()["4.md"]


def test_an_edit_that_another_process_has_listed_waits_for_no_bulk_run(live: Pipeline) -> None:
    for number in range(40):
        live.write(f"many/{number}.md", document(f"many {number}"))
    feed = Behind(["3.md"], more=False)
    with streaming(live, feed=feed):
        live.write("3.md", "# Edited\n\nDuring the import.\n")
        live.list_all()
        feed.wait.set()
        awaited(lambda: live.indexed()["3.md"] == live.expected()["3.md"], "the edit")

    assert live.embedder.embedded == ["# Edited\n\nDuring the import."]


def test_a_source_without_a_feed_is_listed(live: Pipeline) -> None:
    with streaming(live):
        live.write("3.md", "# Edited\n\nFound by listing.\n")
        await_sync(live)


def test_a_shard_in_an_ordinary_run_of_the_stream_lane_is_left_to_it(live: Pipeline) -> None:
    every = InFlight(Lane.STREAM, range(len(live.shards)))
    with streaming(live, feed=Silent(), in_flight=[every]) as running:
        live.write("3.md", "# Edited\n\nBy another run.\n")
        live.list_all()
        looked = len(running.outcomes)
        awaited(lambda: len(running.outcomes) > looked + 3, "some looks")

        assert running.written == []


class Unavailable(CountingEmbedder):
    """An embedder whose server is down until it is told that it is up."""

    def __init__(self, inner: CountingEmbedder) -> None:
        super().__init__(inner)
        self.up, self.asked = threading.Event(), 0

    def encode_passages(self, texts: Sequence[str], names: Sequence[str]) -> Encoded:
        self.asked += 1
        if not self.up.is_set():
            raise EmbeddingUnavailableError("429 Too Many Requests")
        return super().encode_passages(texts, names)


def test_a_model_whose_server_is_down_delays_only_itself(live: Pipeline) -> None:
    spec = wordllama_spec().model_copy(update={"key": "other-v1"})
    other = live.with_model(load_embedder(spec))
    other.build()
    down = Unavailable(other.embedder)
    other.embedder = down

    with streaming(live, other, feed=feed_of(live)) as running:
        for number in range(4):
            live.write(f"{number}.md", f"# Edited\n\nText {number}, while one server is down.\n")
        await_sync(live)
        awaited(lambda: down.asked >= 3, "it to be asked again")
        assert other.indexed() != other.expected()
        down.up.set()
        await_sync(live, other)

    assert len(set(down.embedded)) == len(down.embedded) == 4
    assert sum("429" in sentence for sentence in running.said) < 3 * down.asked


def test_a_stream_that_ends_in_the_middle_leaves_its_shard_to_the_next(live: Pipeline) -> None:
    held = Unavailable(live.embedder)
    live.embedder = held
    with streaming(live, feed=feed_of(live)):
        live.write("3.md", "# Edited\n\nBefore it ends.\n")
        awaited(lambda: held.asked, "the text to be embedded")
    assert live.indexed() != live.expected()

    held.up.set()
    with streaming(live, feed=Silent()):
        await_sync(live)

    assert held.embedded == ["# Edited\n\nBefore it ends."]


def test_two_streams_over_the_same_shards_agree(live: Pipeline) -> None:
    """A successor overlaps with its predecessor, each with its own memory of the lake."""
    objects = live.lake._objects
    one, two = (replace(live, lake=Lake(objects, LakeMemory(1 << 26))) for _ in range(2))
    limits = replace(LIMITS, documents=100, chunks=1000)
    with (
        streaming(one, feed=feed_of(one), limits=limits),
        streaming(two, feed=feed_of(two), limits=limits),
    ):
        for version in range(6):
            for number in range(4):
                live.write(f"{number}.md", f"# Edited\n\nVersion {version} of {number}.\n")
            live.write(f"new-{version}.md", document(f"new {version}"))
        live.remove("11.md")
        await_sync(live)

    assert live.indexed() == live.expected()
    assert live.run()["sync.written"] == 0
