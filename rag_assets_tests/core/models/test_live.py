"""The live alias: what is right, what is put back, and what is only named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.models.live import Alias, Holding, evaluate_live
from rag_assets_tests.core.models.test_lifecycle import promote, upgraded

WHOLE = {key: Holding(f"x__{key}", 3, 3) for key in ("a-v1", "b-v1")}
GONE = Holding("x__b-v1", 3, 0, "does not exist")
PARTIAL = Holding("x__b-v1", 3, 1)


def named(key: str) -> Alias:
    return Alias("x", f"x__{key}", key, f"s{key[0]}")


def without_alias() -> Registry:
    """`a` was live, then `b`; now the alias is missing."""
    return Registry(upgraded().records)


def test_a_whole_collection_that_the_alias_names_is_right() -> None:
    verdict = evaluate_live(named("b-v1"), upgraded(), WHOLE)

    assert (verdict.passed, verdict.restore) == (True, None)


def test_where_nothing_has_been_live_nothing_is_wrong_and_nothing_is_put_back() -> None:
    registry = Registry().register("a-v1", "sa").build("a-v1")

    verdict = evaluate_live(Alias("x"), registry, {})

    assert (verdict.passed, verdict.restore) == (True, None)
    assert verdict.message.startswith("Nothing has been live yet")


def test_a_missing_alias_is_put_back_on_what_was_live_last() -> None:
    verdict = evaluate_live(Alias("x"), without_alias(), WHOLE)

    assert (verdict.passed, verdict.restore) == (False, "b-v1")
    assert "'x' is missing, although b-v1 was live. It is put back on x__b-v1" in verdict.message


@pytest.mark.parametrize("left", [GONE, PARTIAL])
def test_while_the_live_collection_is_filled_again_the_previous_one_serves(left: Holding) -> None:
    verdict = evaluate_live(Alias("x"), without_alias(), WHOLE | {"b-v1": left})

    assert (verdict.passed, verdict.restore) == (False, "a-v1")
    assert left.sentence in verdict.message
    assert "b-v1 is filled again; promote it when it is in sync" in verdict.message


def test_without_a_whole_collection_the_alias_waits_and_the_message_counts() -> None:
    registry = promote(Registry().register("b-v1", "sb").build("b-v1"), "b-v1")

    verdict = evaluate_live(Alias("x"), Registry(registry.records), {"b-v1": PARTIAL})

    assert (verdict.passed, verdict.restore) == (False, None)
    assert "x__b-v1 has 1 of 3 shards, and no other model" in verdict.message


def test_a_live_collection_that_lacks_shards_is_named_with_the_way_back() -> None:
    verdict = evaluate_live(named("b-v1"), upgraded(), WHOLE | {"b-v1": PARTIAL})

    assert (verdict.passed, verdict.restore) == (False, None)
    assert "b-v1 is live, but x__b-v1 has 1 of 3 shards." in verdict.message
    assert "a-v1 is whole: the job rollback makes it live at once" in verdict.message


def test_an_alias_on_a_foreign_collection_is_named_and_left_alone() -> None:
    verdict = evaluate_live(Alias("x", "theirs"), without_alias(), WHOLE)

    assert (verdict.passed, verdict.restore) == (False, None)
    assert "'x' points to 'theirs', which is not a collection of this platform" in verdict.message
    assert "`rag-assets models promote b-v1`" in verdict.message


held = st.builds(
    Holding, st.just("c"), st.just(3), st.integers(0, 3), st.sampled_from(["", "does not exist"])
)


@given(st.booleans(), st.dictionaries(st.sampled_from(["a-v1", "b-v1"]), held, min_size=2))
def test_only_a_missing_alias_is_put_back_and_only_on_a_whole_collection(
    missing: bool, holdings: dict[str, Holding]
) -> None:
    registry = without_alias() if missing else upgraded()

    verdict = evaluate_live(Alias("x") if missing else named("b-v1"), registry, holdings)

    if verdict.restore:
        assert missing
        assert holdings[verdict.restore].whole
        assert not verdict.passed
    else:
        whole = any(holding.whole for holding in holdings.values())
        assert not (missing and whole)
