"""A text that the lake has a vector of is not embedded again, whichever document has it."""

import pytest

from rag_assets.core.identity import shard_of
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline


def name_in(pipeline: Pipeline, shard: str) -> str:
    return next(n for n in map("copy-{}.md".format, range(99)) if in_shard(pipeline, n, shard))


def in_shard(pipeline: Pipeline, name: str, shard: str) -> bool:
    return shard_of(name, pipeline.shards) == shard


@pytest.fixture
def indexed(pipeline: Pipeline) -> Pipeline:
    pipeline.fill(6)
    return pipeline


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_copy_embeds_nothing_in_whatever_shard_it_is(indexed: Pipeline, position: int) -> None:
    indexed.write(name_in(indexed, indexed.shards[position]), document("doc 1"))

    work = indexed.run()

    assert (work["parsing.parsed"], work["embedding.computed"]) == (1, 0)
    assert work["sync.written"] == work["chunking.new"] > 0
    assert indexed.indexed() == indexed.expected()


@pytest.mark.parametrize("order", [("add", "remove"), ("remove", "add")])
def test_a_rename_that_is_seen_in_halves_embeds_nothing(
    indexed: Pipeline, order: tuple[str, str]
) -> None:
    text = (indexed.documents / "1.md").read_text()
    renamed = name_in(indexed, shard_of("1.md", indexed.shards))
    for half in order:
        if half == "add":
            indexed.write(renamed, text)
        else:
            indexed.remove("1.md")
        assert indexed.run()["embedding.computed"] == 0

    assert indexed.indexed() == indexed.expected()


def test_a_vector_stays_while_another_document_has_its_text(indexed: Pipeline) -> None:
    indexed.write(name_in(indexed, shard_of("1.md", indexed.shards)), document("doc 1"))
    indexed.run()
    indexed.remove("1.md")
    indexed.run()

    assert indexed.indexed() == indexed.expected()
    assert indexed.run()["embedding.computed"] == 0
