"""Ranking measures, against values worked out manually."""

from math import log2

import pytest

from rag_assets.core.models.retrieval import ndcg, recall


def test_the_ideal_ranking_scores_one() -> None:
    assert ndcg(["a", "b", "c"], {"a": 2.0, "b": 1.0}) == pytest.approx(1.0)


def test_ndcg_discounts_by_the_logarithm_of_the_rank() -> None:
    assert ndcg(["x", "a"], {"a": 1.0}) == pytest.approx(1 / log2(3))
    assert ndcg(["x", "b", "a"], {"a": 3.0, "b": 1.0}) == pytest.approx(
        (1 / log2(3) + 3 / log2(4)) / (3 + 1 / log2(3))
    )


def test_what_stands_behind_the_cut_off_does_not_count() -> None:
    others = [f"x{number}" for number in range(10)]

    assert ndcg([*others, "a"], {"a": 1.0}) == 0.0
    assert recall([*others, "a"], {"a": 1.0}) == 0.0
    assert recall([*others[1:], "a"], {"a": 1.0}) == 1.0


def test_recall_is_the_share_of_relevant_documents_found() -> None:
    relevance = {"a": 1.0, "b": 1.0, "c": 2.0, "d": 0.0}

    assert recall(["a", "x", "b"], relevance) == pytest.approx(2 / 3)


def test_nothing_relevant_scores_zero() -> None:
    assert ndcg(["a"], {}) == 0.0
    assert recall(["a"], {"a": 0.0}) == 0.0
