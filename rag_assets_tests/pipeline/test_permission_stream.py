"""Permissions that change while the stream works: what leaves search, and what is waited for."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag_assets.core.errors import SupersededInputError
from rag_assets.core.identity import shard_of
from rag_assets.core.models.vectors import Encoded
from rag_assets.core.scheduling.lanes import InFlight, Lane
from rag_assets.pipeline.permissions import revoke
from rag_assets_tests.pipeline.test_metadata import RULES, describe, principals
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.streaming import LIMITS, feed_of, streaming
from rag_assets_tests.support.variants import variant
from rag_assets_tests.support.waiting import awaited

BOTH = ["user:ann", "user:bob"]


@pytest.fixture
def live(tmp_path: Path, milvus_uri: str) -> Iterator[Pipeline]:
    """Six documents that Ann and Bob may see."""
    with Pipeline.create(tmp_path, milvus_uri, rules=RULES) as created:
        for number in range(6):
            describe(created, f"{number}.md", principals=BOTH)
        created.fill(6)
        created.promote()
        created.embedder.embedded.clear()
        yield created


def await_principals(live: Pipeline, name: str, *expected: str) -> None:
    awaited(lambda: principals(live, name) == {expected}, f"{name} to be seen by {expected}")


@contextmanager
def embedding_held(live: Pipeline) -> Iterator[threading.Event]:
    """Hold whoever embeds texts until the end; yield the event that somebody does."""
    begun, released, encode = threading.Event(), threading.Event(), live.embedder.encode_passages

    def held(texts: Sequence[str], names: Sequence[str]) -> Encoded:
        begun.set()
        assert released.wait(60)
        return encode(texts, names)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(live.embedder, "encode_passages", held)
        try:
            yield begun
        finally:
            released.set()


def bulk_run(live: Pipeline) -> None:
    live.embed_all()
    with suppress(SupersededInputError):  # then the next run goes on with the newer chunks
        live.sync_all()


def test_a_changed_permission_is_streamed_without_parsing_or_embedding(live: Pipeline) -> None:
    with streaming(live, feed=feed_of(live)):
        describe(live, "0.md", principals=["user:bob"])
        await_principals(live, "0.md", "user:bob")
        describe(live, "0.md", principals=["user:bob", "user:eve"])
        await_principals(live, "0.md", "user:bob", "user:eve")

    assert live.embedder.embedded == []
    assert principals(live, "1.md") == {tuple(BOTH)}
    assert live.indexed() == {k: v for k, v in live.expected().items() if k.endswith("md")}


def test_a_revocation_waits_for_no_text_that_is_being_embedded(live: Pipeline) -> None:
    with streaming(live, feed=feed_of(live)):
        with embedding_held(live) as embedding:
            live.write("1.md", "# New\n\nA text that takes long to embed.\n")
            assert embedding.wait(60)

            describe(live, "1.md", principals=["user:bob"])  # of the text that is in the index
            describe(live, "2.md", principals=[])
            live.remove("3.md")
            await_principals(live, "1.md", "user:bob")
            await_principals(live, "2.md")
            awaited(lambda: "3.md" not in live.indexed(), "what is gone to leave search")
        awaited(lambda: "takes long" in str(live.indexed()["1.md"]), "the new text")

    assert principals(live, "1.md") == {("user:bob",)}


def test_a_revocation_passes_a_bulk_load(live: Pipeline) -> None:
    for number in range(40):
        live.write(f"many/{number}.md", document(f"many {number}"))
    live.list_all()
    live.parse_and_chunk_all()
    with streaming(live, feed=feed_of(live), limits=replace(LIMITS, chunks=5)):
        describe(live, "0.md", principals=["user:bob"])
        await_principals(live, "0.md", "user:bob")

    assert not any(name.startswith("many/") for name in live.indexed())
    live.run()  # as the bulk runs do
    assert principals(live, "0.md") == {("user:bob",)}


def test_a_large_change_that_is_left_to_bulk_runs_has_its_revocations_obeyed(
    live: Pipeline,
) -> None:
    """A listing by another process has found it; bulk runs over all shards are in flight."""
    for number in range(6):
        live.write(f"{number}.md", document(f"edited {number}"))
        describe(live, f"{number}.md", principals=["user:bob"])
    live.list_all()
    before = live.indexed()
    bulk = [InFlight(Lane.BULK, range(len(live.shards)))]
    with streaming(live, limits=replace(LIMITS, documents=1, chunks=1), in_flight=bulk):
        for number in range(6):
            await_principals(live, f"{number}.md", "user:bob")

    assert live.indexed() == before
    assert live.embedder.embedded == []
    assert live.run()["parsing.parsed"] == 6


def test_both_lanes_at_once_leave_the_latest_permission(live: Pipeline) -> None:
    """A bulk run embeds the state before, while the stream brings what came after."""
    for number in range(6):
        live.write(f"{number}.md", document(f"edited {number}"))
    live.list_all()
    live.parse_and_chunk_all()
    with streaming(live, feed=feed_of(live), limits=replace(LIMITS, chunks=1)):
        bulk = threading.Thread(target=bulk_run, args=[live])
        with embedding_held(live) as embedding:
            bulk.start()
            assert embedding.wait(60)
            for number in range(6):
                describe(live, f"{number}.md", principals=["user:eve"])
            for number in range(6):
                awaited(
                    lambda n=number: principals(live, f"{n}.md") <= {(), ("user:eve",)},
                    "everybody else to see it no more",
                )
        bulk.join()
        awaited(
            lambda: all(principals(live, f"{n}.md") == {("user:eve",)} for n in range(6)),
            "the permissions to be granted",
        )

    live.run()
    assert live.indexed() == {k: v for k, v in live.expected().items() if k.endswith("md")}


def test_a_revocation_that_was_overtaken_hides_nothing(
    live: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was past its look at the fence when a newer run granted more; Milvus takes its write."""
    describe(live, "0.md", principals=["user:bob"])
    live.list_all()
    live.parse_and_chunk_all()
    show_to, shard = live.store.show_to, shard_of("0.md", live.shards)

    def overtaken(*args: Any, **options: Any) -> None:
        monkeypatch.undo()
        describe(live, "0.md", principals=["user:bob", "user:eve"])
        live.run()
        assert principals(live, "0.md") == {("user:bob", "user:eve")}
        show_to(*args, **options)
        assert principals(live, "0.md") == {("user:bob",)}

    monkeypatch.setattr(live.store, "show_to", overtaken)
    assert revoke(live.target(), shard) == 0

    live.run()
    assert principals(live, "0.md") == {("user:bob", "user:eve")}


def test_every_maintained_model_is_revoked_during_a_build_and_a_switch(live: Pipeline) -> None:
    other = live.with_model(variant("rotated"))
    other.build()
    with streaming(live, other, feed=feed_of(live)):
        describe(live, "0.md", principals=["user:bob"])
        other.promotion(wait_seconds=60).make_live(other.embedder.spec.key)
        describe(live, "1.md", principals=["user:bob"])
        for model in (live, other):
            await_principals(model, "0.md", "user:bob")
            await_principals(model, "1.md", "user:bob")
