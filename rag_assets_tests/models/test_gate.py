"""The gate on real collections: every rule is seen to refuse, and a refusal changes nothing."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag_assets.core.errors import MoveRefusedError, PromotionRefusedError
from rag_assets.core.metadata.fields import PRINCIPALS
from rag_assets.core.models.gate import Finding, Rule
from rag_assets.core.models.lifecycle import Role
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline, live_on
from rag_assets_tests.support.variants import variant

pytestmark = pytest.mark.slow  # embeds and searches with several models

OTHER = "rotated-v1"


@pytest.fixture
def live(tmp_path: Path, milvus_lite: str) -> Iterator[Pipeline]:
    with live_on(tmp_path, milvus_lite) as created:
        yield created


@pytest.fixture(scope="module")
def on_full_engine(
    tmp_path_factory: pytest.TempPathFactory, milvus_full: str
) -> Iterator[Pipeline]:
    """A candidate on the full engine; a test that breaks it mends it."""
    with live_on(tmp_path_factory.mktemp("full"), milvus_full) as created:
        yield candidate_beside(created)


@pytest.fixture
def candidate(live: Pipeline) -> Pipeline:
    return candidate_beside(live)


def candidate_beside(live: Pipeline) -> Pipeline:
    """A candidate that is as good, built beside the live one."""
    other = live.with_model(variant("rotated"))
    other.build()
    return other


def evaluated(pipeline: Pipeline, **policy: Any) -> dict[Rule, Finding]:
    findings = pipeline.promotion(**policy).evaluate(pipeline.embedder.spec.key)
    return {finding.rule: finding for finding in findings}


def refused_by(pipeline: Pipeline, rule: Rule, complaint: str, **policy: Any) -> None:
    """Only this rule refuses; promoting reports it and moves nothing."""
    before = pipeline.store.alias_target(pipeline.alias)
    found = evaluated(pipeline, **policy)
    refusing = [name for name, finding in found.items() if not finding.passed]
    assert refusing[0] == rule  # what is lost may also be found worse
    assert set(refusing) <= {rule, Rule.RETRIEVAL}
    assert complaint in found[rule].evidence
    with pytest.raises(PromotionRefusedError, match=f"{rule}: ") as refusal:
        pipeline.promotion(**policy).make_live(pipeline.embedder.spec.key)
    assert complaint in str(refusal.value)
    assert pipeline.store.alias_target(pipeline.alias) == before
    registry = pipeline.registry().read()
    assert (registry.role(WORDLLAMA), registry.role(OTHER)) == (Role.LIVE, Role.CANDIDATE)


def changed_row(pipeline: Pipeline, change: Mapping[str, Any]) -> None:
    """Change one row in Milvus, past our adapter."""
    key = pipeline.chunks()["chunk_id"].sort()[0]
    [row] = pipeline.witness.query(
        pipeline.collection,
        filter=f'chunk_id == "{key}"',
        output_fields=list(pipeline.store.field_types(pipeline.collection)),
        consistency_level="Strong",
    )
    plain = {**row, PRINCIPALS.column: list(row[PRINCIPALS.column])}
    pipeline.witness.upsert(pipeline.collection, [plain | change])
    pipeline.store.flush(pipeline.collection)


def test_a_model_that_is_as_good_passes_every_rule_and_goes_live(candidate: Pipeline) -> None:
    found = evaluated(candidate)

    assert [rule for rule, finding in found.items() if not finding.passed] == []
    assert list(found) == list(Rule)
    assert found[Rule.REPRODUCIBLE].metrics["worst_cosine"] > 0.9999
    assert found[Rule.RETRIEVAL].metrics["live_recall_at_10"] > 0.9
    assert candidate.promote().previous_model == WORDLLAMA
    assert candidate.store.alias_target(candidate.alias) == candidate.collection
    registry = candidate.registry().read()
    assert (registry.role(WORDLLAMA), registry.role(OTHER)) == (Role.PREVIOUS, Role.LIVE)


def test_a_missing_document_is_refused(candidate: Pipeline) -> None:
    lost = [row["chunk_id"] for row in candidate.rows() if row["document_id"] == "3.md"]
    candidate.store.delete(candidate.collection, lost)

    refused_by(candidate, Rule.COMPLETE, f"{len(lost)} rows missing, 0 extra")


def test_a_document_that_is_gone_and_still_in_the_collection_is_refused(
    candidate: Pipeline,
) -> None:
    candidate.remove("3.md")
    candidate.list_all()
    candidate.parse_and_chunk_all()
    many = len(candidate.indexed()["3.md"])
    candidate.embed_all()

    refused_by(candidate, Rule.COMPLETE, f"0 rows missing, {many} extra")


@pytest.mark.parametrize("written", [True, False])
def test_documents_that_change_all_the_time_are_waited_for_as_long_as_their_rows_arrive(
    candidate: Pipeline, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    edits = 0

    def edit() -> None:
        nonlocal edits
        edits += 1
        for number in range(edits % 2, 12, 2):  # in every shard, and not the same as before
            candidate.write(f"{number}.md", f"# Edit {edits}\n\n{number} says {edits} now.")
        candidate.list_all()
        candidate.parse_and_chunk_all()

    def meanwhile(_: float) -> None:  # at each look, other documents are behind
        if written:
            candidate.embed_all()
            candidate.sync_all()
        edit()

    edit()
    monkeypatch.setattr("rag_assets.models.gate.time.sleep", meanwhile)
    finding = evaluated(candidate, wait_seconds=2)[Rule.COMPLETE]

    assert finding.passed == written
    complaint = ", but for " if written else " rows missing"
    assert complaint in finding.evidence
    assert edits > 1


@pytest.mark.parametrize(
    ("first", "complaint"), [(float("nan"), "1 not finite"), (2.0, "1 not of length one")]
)
def test_a_row_with_nan_or_a_wrong_length_is_refused(
    candidate: Pipeline, first: float, complaint: str
) -> None:
    changed_row(candidate, {"vector": np.asarray([first] + [0.0] * 255, np.float32)})

    refused_by(candidate, Rule.VECTORS, complaint, sampled_chunks=1)


def test_vectors_of_another_model_are_refused_though_they_have_the_right_form(
    candidate: Pipeline, live: Pipeline
) -> None:
    key = candidate.chunks()["chunk_id"].sort()[0]
    wrong = live.store.vectors(live.collection, [key])[key]
    changed_row(candidate, {"vector": wrong})

    assert not evaluated(candidate)[Rule.VECTORS].passed
    assert "1 other than in the lake" in evaluated(candidate)[Rule.VECTORS].evidence


def test_a_model_that_no_longer_gives_its_vectors_is_refused(candidate: Pipeline) -> None:
    candidate.embedder._backend = variant("blind")._backend

    found = evaluated(candidate)

    assert not found[Rule.REPRODUCIBLE].passed


def test_a_wrong_signature_is_refused_and_nothing_else_is_evaluated(candidate: Pipeline) -> None:
    signed = candidate.embedder.spec.signature
    candidate.embedder.spec = candidate.embedder.spec.model_copy(update={"query_prefix": "q: "})

    found = evaluated(candidate)

    assert not any(finding.passed for finding in found.values())
    assert signed in found[Rule.SIGNATURE].evidence
    assert "not evaluated, because signature failed" in found[Rule.LATENCY].evidence


def test_a_collection_whose_index_was_not_built_is_refused_and_not_read(live: Pipeline) -> None:
    other = live.with_model(variant("rotated"))
    other.registry().change(lambda r: r.register(OTHER, other.embedder.spec.signature).build(OTHER))
    other.embed_all()
    other.sync_all()

    found = evaluated(other)

    assert found[Rule.SIGNATURE].passed
    assert "is not indexed yet" in found[Rule.INDEX].evidence
    assert not any(finding.passed for rule, finding in found.items() if rule != Rule.SIGNATURE)
    assert not other.store.indexed(other.collection)


def test_on_the_full_engine_a_good_model_passes_every_rule(on_full_engine: Pipeline) -> None:
    assert [f.sentence for f in evaluated(on_full_engine).values() if not f.passed] == []


def test_on_the_full_engine_a_lost_row_is_refused(on_full_engine: Pipeline) -> None:
    lost = on_full_engine.rows()[0]["chunk_id"]
    on_full_engine.store.delete(on_full_engine.collection, [lost])

    refused_by(on_full_engine, Rule.COMPLETE, "1 rows missing, 0 extra")

    assert on_full_engine.sync_all()["sync.written"] == 1


def test_on_the_full_engine_a_wrong_vector_is_refused(on_full_engine: Pipeline) -> None:
    changed_row(on_full_engine, {"vector": np.asarray([2.0] + [0.0] * 255, np.float32)})

    refused_by(on_full_engine, Rule.VECTORS, "1 not of length one", sampled_chunks=1)

    on_full_engine.store.delete(
        on_full_engine.collection, [on_full_engine.chunks()["chunk_id"].sort()[0]]
    )
    assert on_full_engine.sync_all()["sync.written"] == 1


def test_on_the_full_engine_a_collection_that_is_not_loaded_is_refused(
    on_full_engine: Pipeline,
) -> None:
    on_full_engine.witness.release_collection(on_full_engine.collection)

    refused = evaluated(on_full_engine)[Rule.INDEX]

    assert not refused.passed
    assert refused.evidence.endswith("not loaded")
    on_full_engine.sync_all()


def test_on_the_full_engine_a_collection_without_its_index_is_refused(
    on_full_engine: Pipeline,
) -> None:
    on_full_engine.witness.release_collection(on_full_engine.collection)
    on_full_engine.witness.drop_index(on_full_engine.collection, "vector")

    assert "is not indexed yet" in evaluated(on_full_engine)[Rule.INDEX].evidence
    assert on_full_engine.sync_all()["sync.written"] == 0
    assert evaluated(on_full_engine)[Rule.INDEX].passed


def test_worse_retrieval_is_refused_by_questions_drawn_from_the_corpus(live: Pipeline) -> None:
    blind = live.with_model(variant("blind"))
    blind.build()

    found = evaluated(blind)

    assert [rule for rule, finding in found.items() if not finding.passed] == [Rule.RETRIEVAL]
    assert "known-item queries: recall" in found[Rule.RETRIEVAL].evidence
    with pytest.raises(PromotionRefusedError, match="exceeded by recall"):
        blind.promote()


def test_labelled_queries_decide_where_the_user_gives_them(
    candidate: Pipeline, tmp_path: Path
) -> None:
    queries = tmp_path / "queries.yaml"
    queries.write_text("- question: What is in doc 3?\n  documents: {3.md: 2, 4.md: 1}\n")

    evidence = evaluated(candidate, queries_file=queries)[Rule.RETRIEVAL].evidence

    assert evidence.startswith("1 labelled queries: recall")


def test_a_slower_model_is_refused(candidate: Pipeline) -> None:
    policy = {"latency_factor": 1e-6, "latency_seconds": 0.0}
    refused_by(candidate, Rule.LATENCY, "the limit is", **policy)


def test_a_forced_promotion_goes_through_and_reports_what_refused(live: Pipeline) -> None:
    blind = live.with_model(variant("blind"))
    blind.build()

    release, findings = blind.promotion().make_live("blind-v1", force=True)

    assert release.collection == live.store.alias_target(live.alias) == blind.collection
    assert [f.rule for f in findings if not f.passed] == [Rule.RETRIEVAL]


def test_force_does_not_promote_what_was_never_built(live: Pipeline) -> None:
    other = live.with_model(variant("short"))
    other.registry().change(lambda r: r.register("short-v1", other.embedder.spec.signature))

    with pytest.raises(MoveRefusedError, match="never built"):
        other.promotion().make_live("short-v1", force=True)


def test_judging_the_live_model_again_changes_nothing(live: Pipeline) -> None:
    assert live.promote().previous_model == WORDLLAMA
    assert live.registry().read().live == WORDLLAMA
