"""Alias and collections changed by another client: what is put back, taken over, or left alone."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.errors import MoveRefusedError, PromotionRefusedError, VectorStoreError
from rag_assets.core.models.gate import Rule
from rag_assets.core.models.lifecycle import Role
from rag_assets.models.live import read_live
from rag_assets.pipeline.upkeep.audit import dropped
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline, live_on
from rag_assets_tests.support.variants import variant

NEW = "rotated-v1"


@pytest.fixture
def live(tmp_path: Path, milvus_lite: str) -> Iterator[Pipeline]:
    with live_on(tmp_path, milvus_lite) as created:
        yield created


@pytest.fixture
def foreign(live: Pipeline) -> Iterator[str]:
    """A collection of another application, which the alias points to."""
    name = f"theirs_{live.alias}"
    live.store.create(name, dimension=4)
    live.store.set_alias(live.alias, name)
    yield name
    if live.store.alias_target(live.alias) == name:
        live.witness.drop_alias(live.alias)
    live.store.drop(name)


def target_of(pipeline: Pipeline) -> str | None:
    return pipeline.store.alias_target(pipeline.alias)


def test_an_alias_that_was_dropped_is_put_back(live: Pipeline) -> None:
    live.witness.drop_alias(live.alias)
    assert live.registry().read().live is None

    for _ in range(2):  # repeated, it changes nothing
        release, findings = live.promotion().restore_alias()

        assert (release.model, target_of(live)) == (WORDLLAMA, live.collection)
        assert all(finding.passed for finding in findings)


def test_an_alias_that_another_client_has_set_meanwhile_is_left_to_it(
    live: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = live.with_model(variant("rotated"))
    other.build()
    live.witness.drop_alias(live.alias)
    restore = MilvusStore.restore_alias

    def late(store: MilvusStore, alias: str, collection: str) -> None:
        store.set_alias(alias, other.collection)
        restore(store, alias, collection)

    monkeypatch.setattr(MilvusStore, "restore_alias", late)

    with pytest.raises(VectorStoreError, match="another client is updating this alias"):
        live.promotion().restore_alias()

    assert target_of(live) == other.collection


def test_a_foreign_collection_is_no_model_and_a_promotion_takes_the_alias_back(
    live: Pipeline, foreign: str
) -> None:
    registry = live.registry().read()
    assert (registry.live, registry.last_live) == (None, WORDLLAMA)
    assert list(registry.records) == [WORDLLAMA]
    assert "is not a collection of this platform" in read_live(live.index)[2].message
    with pytest.raises(MoveRefusedError, match=foreign):
        live.promotion().restore_alias()
    assert target_of(live) == foreign

    release = live.promote()

    assert (release.previous_collection, target_of(live)) == (foreign, live.collection)


def test_a_collection_of_another_source_is_foreign(live: Pipeline) -> None:
    elsewhere = replace(live.index, source="s3://elsewhere")

    assert replace(live.registry(), index=elsewhere).read().live is None


def test_an_alias_that_was_moved_to_another_model_is_obeyed(live: Pipeline) -> None:
    other = live.with_model(variant("rotated"))
    other.build()
    live.store.set_alias(live.alias, other.collection)

    registry = live.registry().change(lambda now: now)

    assert (registry.role(NEW), registry.role(WORDLLAMA)) == (Role.LIVE, Role.PREVIOUS)
    live.witness.drop_alias(live.alias)
    assert live.promotion().restore_alias()[0].model == NEW


def test_a_live_collection_that_was_dropped_is_filled_again_whole(live: Pipeline) -> None:
    embedded = len(live.embedder.embedded)
    live.witness.drop_alias(live.alias)
    live.store.drop(live.collection)

    live.write("one more.md", "# One more\n\nAn edit is the first to notice.\n")
    live.list_all()
    live.parse_and_chunk_all()
    live.embed_all()
    replace(live, shards=live.shards[:1]).sync_all()

    partial = read_live(live.index)[2]
    assert (partial.passed, partial.restore) == (False, None)
    assert f"{live.collection} has 1 of 3 shards" in partial.message
    live.sync_all()
    assert read_live(live.index)[2].restore == WORDLLAMA
    assert live.promotion().restore_alias()[0].collection == target_of(live)
    assert live.indexed() == live.expected()
    assert len(live.embedder.embedded) == embedded + 1  # only the new document


def test_while_it_is_filled_again_the_model_before_serves(live: Pipeline) -> None:
    other = live.with_model(variant("rotated"))
    other.build()
    other.promote()
    live.witness.drop_alias(live.alias)
    live.store.drop(other.collection)

    assert live.promotion().restore_alias()[0].model == WORDLLAMA

    assert target_of(live) == live.collection
    other.sync_all()
    other.sync_all()
    assert other.indexed() == other.expected()
    assert other.promote().previous_model == WORDLLAMA


def test_a_promotion_needs_no_live_collection_to_compare_with(live: Pipeline) -> None:
    other = live.with_model(variant("rotated"))
    other.build()
    live.witness.drop_collection(live.collection)

    assert other.promote().collection == target_of(live) == other.collection


def test_the_audit_voids_the_records_of_a_collection_that_was_dropped(live: Pipeline) -> None:
    assert dropped(live.target()) == ""
    live.witness.drop_alias(live.alias)
    live.store.drop(live.collection)

    message = dropped(live.target())

    assert f"{live.collection}, with the rows of 3 shards, was dropped" in message
    assert dropped(live.target()) == ""
    live.sync_all()
    assert live.indexed() == live.expected()


def test_an_empty_collection_does_not_go_live(pipeline: Pipeline) -> None:
    pipeline.run()
    pipeline.build()

    with pytest.raises(PromotionRefusedError, match="no document has any text yet") as refused:
        pipeline.promote()

    without = {finding.rule for finding in refused.value.findings if not finding.passed}
    assert without == set(Rule) - {Rule.SIGNATURE, Rule.INDEX}
    assert target_of(pipeline) is None


def test_a_collection_named_like_the_alias_is_named(live: Pipeline) -> None:
    live.witness.drop_alias(live.alias)
    live.store.create(live.alias, dimension=4)
    try:
        with pytest.raises(VectorStoreError, match="choose another RAG_ASSETS_ALIAS"):
            live.promote()
    finally:
        live.store.drop(live.alias)


def test_on_each_engine_the_alias_of_a_dropped_collection_can_be_set_again(
    tmp_path: Path, milvus_uri: str
) -> None:
    with live_on(tmp_path, milvus_uri) as live:
        live.witness.drop_collection(live.collection)  # and the alias with it
        live.sync_all()

        assert live.promotion().restore_alias()[0].model == WORDLLAMA
        assert live.indexed() == live.expected()
