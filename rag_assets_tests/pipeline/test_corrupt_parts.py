"""A corrupt part costs the work of its rows, and nothing that is indexed is lost."""

import polars as pl
import pytest

from rag_assets.adapters.lake.files import parts
from rag_assets.adapters.lake.files.parts import Part
from rag_assets.adapters.lake.lake import PartitionKey
from rag_assets.core.names import Asset
from rag_assets.pipeline.upkeep.audit import set_aside_corrupt
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.damage import damage
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline

SHARD = "s000"
ASSETS = (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS, Asset.EMBEDDINGS)


@pytest.fixture
def filled(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    """Twelve documents in one shard, in many small parts."""
    monkeypatch.setattr(parts, "PART_BYTES", 4000)
    monkeypatch.setattr(parts, "FULL_BYTES", 0)
    pipeline.shards = [SHARD]
    pipeline.fill(12)
    pipeline.run()
    return pipeline


def key(asset: str) -> PartitionKey:
    return PartitionKey(asset, *((WORDLLAMA,) if asset == Asset.EMBEDDINGS else ()), SHARD)


def parts_of(pipeline: Pipeline, asset: str) -> tuple[Part, ...]:
    head = pipeline.lake.open(key(asset), {}).head
    assert head is not None
    return head.parts


@pytest.mark.parametrize("kind", ["half", "empty", "gone"])
@pytest.mark.parametrize("asset", ASSETS)
def test_only_what_was_lost_is_made_again(filled: Pipeline, asset: str, kind: str) -> None:
    before, [lost, *others] = filled.indexed(), parts_of(filled, asset)
    texts = filled.chunks().filter(
        pl.col("document_id").is_between(pl.lit(lost.first), pl.lit(lost.last))
    )
    assert others or asset == Asset.SOURCE_FILES
    if kind == "gone":
        filled.lake._objects.delete(lost.path)
    else:
        damage(filled.lake, lost.path, kind)
    edited = document("doc 7") + "\n\nOne more paragraph, which nobody has read yet."
    filled.write("7.md", edited)

    set_aside_corrupt(filled.lake, filled.shards)
    work = filled.run()

    assert filled.indexed() == filled.expected()
    assert filled.indexed() | {"7.md": before["7.md"]} == before
    made = {"parsing.parsed": 1, "embedding.computed": 2}  # the edit, at most
    if asset == Asset.PARSED_DOCUMENTS:
        made["parsing.parsed"] += texts["document_id"].n_unique()
    if asset == Asset.EMBEDDINGS:
        made["embedding.computed"] += texts["text_digest"].n_unique()
    assert {name: min(work[name], most) for name, most in made.items()} == {
        name: work[name] for name in made
    }


def test_fingerprints_that_are_lost_are_read_from_the_rows(
    filled: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_assets.adapters.lake.part_store.KEYED_BYTES", 0)
    filled.write("more.md", document("more"))
    filled.run()
    lost = {part.keys for part in parts_of(filled, Asset.EMBEDDINGS)}
    assert "" not in lost
    for keys in lost:
        damage(filled.lake, keys, "half")
    filled.write("copy.md", document("more"))

    assert filled.run()["embedding.computed"] == 0
    assert filled.indexed() == filled.expected()
