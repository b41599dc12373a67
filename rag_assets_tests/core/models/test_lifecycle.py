"""A model's life: which steps are allowed from where, and that each can be repeated."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_assets.core.errors import MoveRefusedError
from rag_assets.core.models.lifecycle import ModelRecord, Registry, Role

KEYS = ("a-v1", "b-v1", "c-v1")


def promote(registry: Registry, key: str) -> Registry:
    """What a promotion does: record, alias, record."""
    begun = registry.begin_promotion(key)
    return Registry(begun.records, key).end_promotion(key)


def upgraded() -> Registry:
    """`a` was live, `b` is."""
    registry = Registry().register("a-v1", "sa").build("a-v1")
    registry = promote(registry, "a-v1").register("b-v1", "sb").build("b-v1")
    return promote(registry, "b-v1")


def test_a_model_goes_from_registered_to_retired() -> None:
    registry = Registry().register("a-v1", "sa")
    assert registry.role("a-v1") is Role.REGISTERED
    registry = registry.build("a-v1")
    assert registry.role("a-v1") is Role.CANDIDATE
    registry = promote(registry, "a-v1")
    assert registry.role("a-v1") is Role.LIVE
    registry = promote(registry.register("b-v1", "sb").build("b-v1"), "b-v1")
    assert (registry.role("a-v1"), registry.role("b-v1")) == (Role.PREVIOUS, Role.LIVE)
    registry = registry.retire("a-v1")
    assert registry.role("a-v1") is Role.RETIRED
    assert registry.register("a-v1", "sa").role("a-v1") is Role.REGISTERED


def test_candidate_live_and_previous_are_maintained_and_no_others() -> None:
    registry = upgraded().register("c-v1", "sc")
    assert registry.maintained == ["a-v1", "b-v1"]
    assert registry.build("c-v1").maintained == ["a-v1", "b-v1", "c-v1"]
    assert registry.retire("a-v1").maintained == ["b-v1"]


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        (lambda r: r.retire("b-v1"), "b-v1 is live: queries are answered from it"),
        (lambda r: r.register("b-v1", "other"), "registered with signature sb.*new key"),
        (lambda r: r.retire("a-v1").register("a-v1", "other"), "registered with signature sa"),
        (lambda r: r.register("c-v1", "s").begin_promotion("c-v1"), "was never built"),
        (lambda r: r.begin_promotion("c-v1"), "not registered"),
        (lambda r: r.retire("a-v1").begin_promotion("a-v1"), "it is retired"),
        (lambda r: r.build("c-v1"), "not registered"),
        (lambda r: r.retire("c-v1"), "not registered"),
        (lambda r: r.cancel("a-v1"), "a-v1 is previous, not being built"),
        (lambda r: r.cancel("b-v1"), "b-v1 is live, not being built"),
        (lambda r: r.retire("a-v1").rollback_target(), "nothing to roll back to"),
        (lambda r: Registry(r.records).retire("b-v1"), "was live when the alias was last seen"),
    ],
)
def test_a_step_that_is_not_allowed_is_refused_with_the_reason(step, complaint) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(MoveRefusedError, match=complaint):
        step(upgraded())


def test_a_second_build_is_refused_unless_requested() -> None:
    registry = upgraded().register("c-v1", "sc").build("c-v1").register("d-v1", "sd")

    with pytest.raises(MoveRefusedError, match=r"c-v1 is a candidate already.*--concurrent"):
        registry.build("d-v1")

    assert registry.build("d-v1", concurrent=True).having(Role.CANDIDATE) == ["c-v1", "d-v1"]
    assert registry.cancel("c-v1").build("d-v1").having(Role.CANDIDATE) == ["d-v1"]


def test_rollback_goes_to_the_model_that_was_live_last() -> None:
    registry = promote(upgraded().register("c-v1", "sc").build("c-v1"), "c-v1")
    assert registry.rollback_target() == "b-v1"
    back = promote(registry, "b-v1")
    assert (back.live, back.role("c-v1")) == ("b-v1", Role.PREVIOUS)
    assert promote(back, "a-v1").rollback_target() == "b-v1"


def test_a_promotion_that_died_before_the_alias_moved_left_everything_as_it_was() -> None:
    registry = upgraded().register("c-v1", "sc").build("c-v1").begin_promotion("c-v1")

    assert (registry.role("b-v1"), registry.role("c-v1")) == (Role.LIVE, Role.CANDIDATE)
    assert registry.rollback_target() == "a-v1"
    with pytest.raises(MoveRefusedError, match="was interrupted"):
        registry.retire("c-v1")
    assert registry.begin_promotion("b-v1").retire("c-v1").role("c-v1") is Role.RETIRED


def test_a_promotion_that_died_after_the_alias_moved_is_done() -> None:
    begun = upgraded().register("c-v1", "sc").build("c-v1").begin_promotion("c-v1")
    registry = Registry(begun.records, "c-v1")

    assert (registry.role("b-v1"), registry.role("c-v1")) == (Role.PREVIOUS, Role.LIVE)
    assert registry.rollback_target() == "b-v1"


def test_a_model_made_live_by_other_means_is_taken_on_record() -> None:
    registry = Registry().adopting("a-v1", "sa")

    assert (registry.role("a-v1"), registry.maintained) == (Role.LIVE, ["a-v1"])
    promoted = promote(registry.register("b-v1", "sb").build("b-v1"), "b-v1")
    assert promoted.role("a-v1") is Role.PREVIOUS


def test_the_records_remember_who_was_live_when_the_alias_is_gone() -> None:
    registry = upgraded()
    assert Registry(registry.records).last_live == "b-v1"
    back = promote(registry, "a-v1")
    without_alias = Registry(back.records)
    assert (without_alias.last_live, without_alias.been_live) == ("a-v1", ["a-v1", "b-v1"])
    assert without_alias.rollback_target() == "b-v1"
    assert without_alias.maintained == ["a-v1", "b-v1"]


def test_records_of_a_release_that_noted_only_who_had_stopped_being_live_are_read_rightly() -> None:
    stored = {
        "a-v1": ModelRecord("a-v1", "sa", building=True, last_live=1),
        "b-v1": ModelRecord("b-v1", "sb", building=True),
    }

    registry = Registry(stored).adopting("b-v1", "sb")

    assert registry.been_live == ["b-v1", "a-v1"]
    assert registry.rollback_target() == "a-v1"
    assert registry.adopting("b-v1", "sb") == registry


def test_lost_records_are_made_of_what_is_known_and_never_change_what_is_recorded() -> None:
    found = Registry().knowing("a-v1", "sa").knowing("b-v1", "sb").adopting("b-v1", "sb")

    assert (found.role("a-v1"), found.role("b-v1")) == (Role.CANDIDATE, Role.LIVE)
    with_history = found.having_been_live(["gone-v1", "a-v1", "b-v1", "a-v1"])
    assert (with_history.live, with_history.role("a-v1")) == ("b-v1", Role.PREVIOUS)
    assert with_history.rollback_target() == "a-v1"
    assert upgraded().knowing("a-v1", "other") == upgraded()


def test_models_of_the_same_signature_are_found() -> None:
    registry = upgraded().register("c-v1", "sb")
    assert registry.same_signature("c-v1", "sb") == ["b-v1"]
    assert registry.same_signature("unheard-of", "sx") == []


steps = st.sampled_from(["register", "build", "cancel", "begin", "alias", "end", "retire"])


@given(st.lists(st.tuples(steps, st.sampled_from(KEYS)), max_size=40))
@example(  # the live model was counted anew each time a promotion began
    [
        *[("register", "a-v1"), ("register", "b-v1"), ("build", "a-v1"), ("build", "b-v1")],
        *[("begin", "a-v1"), ("alias", "a-v1"), ("begin", "b-v1")],
    ]
)
def test_whatever_is_requested_the_live_model_stays_maintained_and_every_step_repeats(
    requested: list[tuple[str, str]],
) -> None:
    registry = Registry()
    for step, key in requested:
        try:
            after = taken(registry, step, key)
        except MoveRefusedError:
            continue
        assert taken(after, step, key) == after  # idempotent
        registry = after
        assert registry.live is None or registry.live in registry.maintained
        assert len(registry.having(Role.LIVE)) == (registry.live is not None)
        assert not set(registry.maintained) & set(registry.having(Role.REGISTERED, Role.RETIRED))
        assert not set(registry.been_live) & set(registry.having(Role.REGISTERED, Role.RETIRED))
        assert registry.live in (None, registry.last_live)
        promoting = [r for r in registry.records.values() if r.promoting]
        assert len(promoting) <= 1
        assert not any(record.retired for record in promoting)


def taken(registry: Registry, step: str, key: str) -> Registry:
    """Take one step; the alias moves only to a model whose promotion has begun."""
    if step == "alias":
        begun = registry.records.get(key, ModelRecord(key, "")).promoting
        return Registry(registry.records, key) if begun else registry
    if step == "end":
        return registry.end_promotion(key) if registry.live == key else registry
    if step == "register":
        return registry.register(key, f"signature of {key}")
    if step == "begin":
        return registry.begin_promotion(key)
    if step == "build":
        return registry.build(key, concurrent=True)
    return registry.cancel(key) if step == "cancel" else registry.retire(key)
