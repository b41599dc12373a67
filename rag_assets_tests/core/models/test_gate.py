"""The gate's rules: what passes, what is refused, and with which evidence."""

from dataclasses import replace

import pytest

from rag_assets.core.models.estimate import Corpus, preview
from rag_assets.core.models.gate import (
    Finding,
    QueryKind,
    VectorFaults,
    evaluate_latency,
    evaluate_reproduction,
    evaluate_retrieval,
    evaluate_rows,
    evaluate_vectors,
    nothing_wrong,
    percentile_95,
)
from rag_assets.core.models.retrieval import (
    LabelledQuery,
    Scores,
    known_item,
    mean_scores,
    reciprocal_rank,
)
from rag_assets_tests.support.pipeline import wordllama_spec

LIVE = Scores(recall=0.8, ndcg=0.7, mrr=0.6, queries=50)


NOTHING = Scores(recall=0.0, ndcg=0.0, mrr=0.0, queries=0)


@pytest.mark.parametrize(
    "finding",
    [
        evaluate_rows(0, [], shards=3),
        evaluate_vectors(VectorFaults()),
        evaluate_reproduction([]),
        evaluate_retrieval(NOTHING, None, 0.02, QueryKind.KNOWN_ITEM),
        evaluate_retrieval(NOTHING, NOTHING, 0.02, QueryKind.LABELLED),
        evaluate_latency([], [], 2.0, 0.5),
        evaluate_latency([], [0.1], 2.0, 0.5),
    ],
    ids=lambda finding: str(finding.rule),
)
def test_a_rule_without_evidence_does_not_pass(finding: Finding) -> None:
    assert not finding.passed
    assert finding.evidence.startswith("nothing to evaluate: ")
    assert nothing_wrong(finding).passed  # where a check finds an empty index, nothing is wrong


@pytest.mark.parametrize("live", [None, replace(LIVE, recall=0.0)])
def test_a_model_by_which_no_query_finds_its_document_is_refused(live: Scores | None) -> None:
    finding = evaluate_retrieval(replace(LIVE, recall=0.0), live, 0.02, QueryKind.LABELLED)

    assert not finding.passed
    assert finding.evidence.startswith("none of 50 labelled queries finds its document")


def test_rows_are_the_chunks_or_the_shards_that_lack_some_are_named() -> None:
    assert evaluate_rows(7, [], shards=3).passed
    assert evaluate_rows(7, [], shards=3, changed=2).evidence.endswith(", but for 2 that changed")
    refused = evaluate_rows(7, ["shard s001: 2 rows missing, 0 extra"], shards=3)
    assert not refused.passed
    assert refused.evidence.startswith("shard s001: 2 rows missing")


def test_vectors_without_fault_pass() -> None:
    finding = evaluate_vectors(VectorFaults(rows=5) + VectorFaults(rows=7))
    assert finding.passed
    assert "12 vectors" in finding.evidence


@pytest.mark.parametrize("fault", ["not_finite", "wrong_length", "other"])
def test_one_faulty_vector_is_refused_by_name(fault: str) -> None:
    finding = evaluate_vectors(
        VectorFaults(rows=5) + VectorFaults(3, **{fault: 1}, first="chunk x")
    )  # type: ignore[arg-type]
    assert not finding.passed
    assert "8 vectors, of which 1 " in finding.evidence
    assert finding.evidence.endswith("the first is of chunk x")


def test_a_vector_that_the_model_does_not_give_any_more_is_refused() -> None:
    assert evaluate_reproduction([1.0, 0.9995]).passed
    assert not evaluate_reproduction([1.0, 0.98]).passed
    assert not evaluate_reproduction([float("nan"), 1.0]).passed
    assert not evaluate_reproduction([1.0, float("nan")]).passed


@pytest.mark.parametrize("score", ["recall", "ndcg", "mrr"])
def test_each_score_may_be_lower_by_the_margin_and_no_more(score: str) -> None:
    def lower(by: float) -> Scores:
        values = {name: getattr(LIVE, name) for name in ("recall", "ndcg", "mrr")}
        return Scores(**values | {score: values[score] - by}, queries=50)

    assert evaluate_retrieval(lower(0.019), LIVE, 0.02, QueryKind.LABELLED).passed
    refused = evaluate_retrieval(lower(0.021), LIVE, 0.02, QueryKind.LABELLED)
    assert not refused.passed
    assert refused.evidence.endswith(f"exceeded by {score}")
    assert refused.metrics[f"live_{score}_at_10"] == getattr(LIVE, score)


def test_of_known_items_only_whether_they_are_found_is_evaluated() -> None:
    ranked_lower = replace(LIVE, ndcg=0.1, mrr=0.1)
    found_less = replace(LIVE, recall=0.7)
    assert evaluate_retrieval(ranked_lower, LIVE, 0.02, QueryKind.KNOWN_ITEM).passed
    refused = evaluate_retrieval(found_less, LIVE, 0.02, QueryKind.KNOWN_ITEM)
    assert refused.evidence.endswith("exceeded by recall")


def test_where_nothing_is_live_retrieval_and_latency_are_recorded() -> None:
    retrieval = evaluate_retrieval(LIVE, None, 0.02, QueryKind.KNOWN_ITEM)
    latency = evaluate_latency([0.1], [], 2.0, 0.0)
    assert retrieval.passed
    assert latency.passed
    assert "no live model" in retrieval.evidence
    assert "no live model" in latency.evidence


def test_latency_is_bounded_by_the_live_models_or_the_allowance() -> None:
    slow = [0.01] * 10 + [0.3] * 10
    assert evaluate_latency(slow, [0.2] * 20, factor=2, allowance=0).passed
    assert not evaluate_latency(slow, [0.1] * 20, factor=2, allowance=0.25).passed
    assert evaluate_latency(slow, [0.1] * 20, factor=2, allowance=0.35).passed


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile_95([5.0, 1.0, 3.0]) == 5.0
    assert percentile_95([float(n) for n in range(1, 101)]) == 95.0
    assert percentile_95([]) == 0.0


def test_scores_are_means_over_the_queries() -> None:
    queries = [LabelledQuery("q", {"a": 1.0}), LabelledQuery("r", {"b": 1.0})]
    scores = mean_scores(queries, [["x", "a"], ["x", "y"]])
    assert (scores.recall, scores.mrr, scores.queries) == (0.5, 0.25, 2)
    assert reciprocal_rank(["x"] * 10 + ["a"], {"a": 1.0}) == 0.0


def test_a_known_item_question_is_the_longest_sentence_without_headings() -> None:
    heading = "# Kiln > Firing on Fridays and other days of the week"
    text = f"{heading}\n\nShort one. The kiln is fired\non Fridays only."
    assert known_item(text) == "The kiln is fired on Fridays only."
    assert len(known_item("word " * 100).split()) == 20
    assert known_item("# Only a heading") == "Only a heading"


def test_a_preview_counts_hours_and_bytes() -> None:
    spec = wordllama_spec()  # 256 dimensions, M 16
    found = preview(Corpus(1_000, 900, 360_000, 50_000), spec, 100.0, "given", replicas=2)
    assert found.gpu_hours == pytest.approx(1.0)
    assert found.lake_bytes == 900 * 1024
    assert found.milvus_bytes == 1_000 * (2 * 1024 + 128) + 50_000
    assert found.memory_bytes == 2 * 1_000 * (1024 + 128)
