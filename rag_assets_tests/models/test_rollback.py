"""The emergency brake: at once, whatever is on its way; refused only for what breaks queries."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.errors import MoveRefusedError, PromotionRefusedError, VectorStoreError
from rag_assets.core.models.gate import Finding, Rule
from rag_assets.core.models.spec import ModelSpec
from rag_assets.models.promotion import Promotion
from rag_assets.pipeline.index import Index
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline, live_on
from rag_assets_tests.support.variants import variant

NEW = "rotated-v1"


@pytest.fixture
def upgraded(tmp_path: Path, milvus_lite: str) -> Iterator[Pipeline]:
    """Twelve documents; the new model is live, and wordllama was before."""
    with live_on(tmp_path, milvus_lite) as old:
        new = old.with_model(variant("rotated"))
        new.build()
        new.promote()
        yield new


def old_of(new: Pipeline) -> Pipeline:
    return new.family[WORDLLAMA]


def without_models(pipeline: Pipeline) -> Promotion:
    """The platform as the job sees it, except that no model can be loaded."""

    def load(spec: ModelSpec) -> Any:
        pytest.fail(f"{spec.key} was loaded")

    index: Index = replace(pipeline.index, load=load)
    return replace(pipeline.promotion(), index=index)


def back(pipeline: Pipeline) -> dict[Rule, Finding]:
    target = pipeline.registry().read().rollback_target()
    release, findings = without_models(pipeline).roll_back(target)
    assert pipeline.store.alias_target(pipeline.alias) == release.collection
    return {finding.rule: finding for finding in findings}


def edited(pipeline: Pipeline, *names: str) -> None:
    """Edit documents up to their chunks; no model has embedded them yet."""
    for name in names:
        pipeline.write(name, document(f"edited {name}"))
    pipeline.list_all()
    pipeline.parse_and_chunk_all()


def test_a_rollback_loads_no_model_and_reads_no_vector(
    upgraded: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MilvusStore, "vectors", lambda *_: pytest.fail("vectors were read"))

    findings = back(upgraded)

    assert list(findings) == [Rule.SIGNATURE, Rule.INDEX, Rule.COMPLETE]
    assert findings[Rule.COMPLETE].evidence.endswith("; every change has reached it")
    assert upgraded.registry().read().live == WORDLLAMA


def test_an_edit_on_its_way_stops_no_rollback_and_is_counted(upgraded: Pipeline) -> None:
    edited(upgraded, "3.md", "5.md", "new.md")
    upgraded.remove("7.md")
    edited(upgraded)

    complete = back(upgraded)[Rule.COMPLETE]

    assert complete.passed
    assert "changes of 4 documents in" in complete.evidence
    assert "the stream runs bring them" in complete.evidence
    assert complete.metrics["documents_behind"] == 4
    assert 0 < complete.metrics["seconds_behind"] < 600
    old = old_of(upgraded)
    old.embed_all()
    old.sync_all()
    assert old.indexed() == old.expected()


def test_a_shard_that_a_run_is_writing_stops_no_rollback(
    upgraded: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = old_of(upgraded)
    edited(old, "3.md")
    old.embed_all()

    def killed(*_: object) -> None:
        raise VectorStoreError("the run died here")

    with monkeypatch.context() as broken:
        broken.setattr(MilvusStore, "upsert", killed)
        with pytest.raises(VectorStoreError):
            old.sync_all()

    assert back(upgraded)[Rule.COMPLETE].metrics["documents_behind"] == 1


def test_how_stale_it_is_need_not_be_known(
    upgraded: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited(upgraded, "3.md")

    def busy(*_: object, **__: object) -> None:
        raise VectorStoreError("too busy to read rows")

    monkeypatch.setattr(MilvusStore, "document_rows", busy)

    assert "how stale is unknown: too busy" in back(upgraded)[Rule.COMPLETE].evidence


def refusal(pipeline: Pipeline) -> str:
    before = pipeline.store.alias_target(pipeline.alias)
    with pytest.raises(PromotionRefusedError) as refused:
        without_models(pipeline).roll_back(WORDLLAMA)
    assert pipeline.store.alias_target(pipeline.alias) == before
    return str(refused.value)


def test_a_collection_that_is_gone_or_of_another_spec_is_refused(upgraded: Pipeline) -> None:
    old = old_of(upgraded)
    spec = old.embedder.spec
    old.embedder.spec = spec.model_copy(update={"query_prefix": "q: "})
    assert "was built from another spec" in refusal(upgraded)
    old.embedder.spec = spec
    old.store.drop(old.collection)
    assert f"signature: {old.collection} does not exist" in refusal(upgraded)


def test_a_collection_that_is_being_filled_again_is_refused_with_its_shards(
    upgraded: Pipeline,
) -> None:
    old = old_of(upgraded)
    old.store.drop(old.collection)
    first, *rest = old.shards
    replace(old, shards=[first]).sync_all()  # creates it again, without an index

    assert "is not indexed yet" in refusal(upgraded)

    replace(old, shards=old.shards).sync_all()
    old.sync_all()
    assert back(upgraded)[Rule.COMPLETE].evidence.startswith(f"{old.collection} has 3 of 3")
    assert rest


def test_a_collection_that_lacks_a_shard_is_refused_unless_forced(upgraded: Pipeline) -> None:
    old = old_of(upgraded)
    old.lake.remove("collection", WORDLLAMA)
    replace(old, shards=old.shards[:1]).sync_all()

    assert f"{old.collection} has 1 of 3 shards" in refusal(upgraded)

    release, findings = without_models(upgraded).roll_back(WORDLLAMA, force=True)
    assert release.model == WORDLLAMA
    assert [finding.rule for finding in findings if not finding.passed] == [Rule.COMPLETE]


def test_a_promotion_that_is_overtaken_by_a_rollback_does_not_undo_it(
    upgraded: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    third = upgraded.with_model(variant("short"))
    third.build()
    evaluate = Promotion.evaluate

    def slowly(promotion: Promotion, model: str) -> Sequence[Finding]:
        findings = evaluate(promotion, model)
        back(upgraded)  # in the meantime
        return findings

    monkeypatch.setattr(Promotion, "evaluate", slowly)
    with pytest.raises(MoveRefusedError, match=f"{WORDLLAMA} is live now, no longer {NEW}"):
        third.promote()

    assert third.registry().read().live == WORDLLAMA
