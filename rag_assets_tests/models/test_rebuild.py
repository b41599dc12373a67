"""A rebuild: another collection of a model, with today's fields and index, from its vectors."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rag_assets.core.errors import MoveRefusedError
from rag_assets.core.metadata.rules import metadata_rules
from rag_assets.core.models.spec import IndexSpec, collection_name, next_rebuild
from rag_assets.models.lifecycle import Lifecycle, Orchestrator
from rag_assets.models.registry import model_run
from rag_assets.pipeline.embedding import embed_shards
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline, live_on

RULES = metadata_rules(
    {
        "fields": {"year": {"type": "integer", "default": 2026}},
        "permissions": {"default": "open"},
    },
    "metadata.yaml",
)


class Partitions(Orchestrator):
    """The models that are partitions."""

    def __init__(self) -> None:
        self.models: set[str] = set()

    def add_model(self, key: str) -> None:
        self.models.add(key)

    def remove_model(self, key: str) -> None:
        self.models.discard(key)

    def end_runs(self, key: str) -> None:
        pass


@pytest.fixture
def live(tmp_path: Path, milvus_uri: str) -> Iterator[Pipeline]:
    with live_on(tmp_path, milvus_uri) as created:
        yield created


def rebuilt(live: Pipeline) -> Pipeline:
    """Rebuild the live model; return the platform as its rebuild sees it."""
    key = next_rebuild(WORDLLAMA, live.registry().read().records)
    other = live.with_model(live.embedder)
    other.embedder.spec = live.embedder.spec.rebuilt_as(key)
    live.family[key] = other
    found, _ = Lifecycle(live.index, Partitions()).rebuild(WORDLLAMA)
    assert found == key
    return other


def embedded(pipeline: Pipeline) -> int:
    """Bring the vectors in sync, as a run does; return how many texts were embedded."""
    run = model_run(pipeline.index, pipeline.embedder.spec)
    return sum(report.computed for _, report in embed_shards(run, pipeline.shards))


def test_a_declared_field_and_permissions_reach_a_rebuild_without_embedding(live: Pipeline) -> None:
    assert live.target().outdated == ""
    live.declare(RULES)
    assert live.target().outdated == "the field year is missing; permissions are off, not open"
    live.list_all()
    live.parse_and_chunk_all()
    live.embed_all()
    live.sync_all()  # the live one is kept in sync without the field

    other = replace(rebuilt(live), rules=RULES)
    computed = embedded(other)
    other.sync_all()
    other.sync_all()
    other.promote()

    assert computed == 0
    assert other.target().outdated == ""
    assert {row["meta_year"] for row in other.rows("meta_year")} == {2026}
    assert other.indexed() == live.indexed()
    assert live.store.alias_target(live.alias) == other.collection
    assert other.collection == f"{live.alias}__wordllama_256_v1__2"


def test_another_index_is_had_by_a_rebuild_and_the_old_one_stays_in_use(live: Pipeline) -> None:
    flat = replace_index(live, IndexSpec(type="FLAT", params={}))

    assert flat.target().outdated == "index_type is HNSW, not FLAT"
    flat.write("new.md", "# New\n\nText.\n")
    flat.run()
    assert "new.md" in flat.indexed()

    other = rebuilt(flat)
    assert embedded(other) == 0
    other.sync_all()
    other.sync_all()
    assert other.target().outdated == ""
    assert other.indexed() == flat.indexed()


def test_a_rebuild_that_is_not_live_yet_is_gone_on_with(live: Pipeline) -> None:
    other = rebuilt(live)
    lifecycle = Lifecycle(live.index, Partitions())

    assert lifecycle.rebuild(WORDLLAMA)[0] == other.embedder.spec.key
    with pytest.raises(MoveRefusedError, match="has not been built"):
        lifecycle.rebuild("bge-m3-v1")


def test_rebuilds_are_numbered_and_their_collections_are_no_other_models() -> None:
    assert next_rebuild("a-v1", ["a-v1"]) == "a-v1.2"
    assert next_rebuild("a-v1.3", ["a-v1", "a-v1.2", "a-v1.3", "a-v2.9"]) == "a-v1.4"
    names = {collection_name("x", key) for key in ("a-v1.2", "a-v1-2", "a-v12", "a-v1")}
    assert len(names) == 4


def replace_index(live: Pipeline, index: IndexSpec) -> Pipeline:
    """The same model, whose spec now asks for another index."""
    changed = replace(live)
    changed.embedder.spec = live.embedder.spec.model_copy(update={"index": index})
    return changed
