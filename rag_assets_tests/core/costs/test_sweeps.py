"""Sensitivity and break-even points."""

import pytest

from rag_assets.core.costs.inputs import Case, inputs
from rag_assets.core.costs.model import ratio
from rag_assets.core.costs.sweeps import (
    RANGES,
    SHOWN_CHANGES,
    break_even,
    sensitivity,
    standing_break_even,
    streamed,
)


def test_each_input_is_halved_and_doubled_and_the_largest_effect_comes_first() -> None:
    effects = sensitivity(Case())

    assert {one.name for one in effects} == {
        name for _, name, field, _ in inputs() if field.annotation is float
    }
    assert effects[0].name == "bulk_share"
    [documents] = [one for one in effects if one.name == "documents_a_day"]
    assert documents.halved == ratio(Case().having({"documents_a_day": 5_000}))
    assert documents.doubled == ratio(Case().having({"documents_a_day": 20_000}))


@pytest.mark.parametrize("name", RANGES)
def test_on_either_side_of_a_break_even_point_another_policy_is_cheaper(name: str) -> None:
    case = Case().having({"gpu_run_start_s": 0, "stream_run": False})  # where it is close

    turn = break_even(case, name)

    sides = [ratio(case.having({name: x * f})) > 1 for x in turn.at for f in (0.9999, 1.0001)]
    assert all(below != above for below, above in zip(sides[::2], sides[1::2], strict=True))


def test_there_are_break_even_points() -> None:
    stream_runs = Case().having({"stream_run": False})

    assert break_even(stream_runs, "bulk_share").at == pytest.approx([0.04, 0.0453], rel=1e-3)
    assert break_even(Case(), "bulk_share").at == ()


def test_a_standing_run_costs_less_from_the_break_even_rate_on() -> None:
    ends, always = standing_break_even(Case())

    assert ends.at == ()
    assert ends.ratios[0] > 1
    [rate] = always.at
    assert rate == pytest.approx(12.95, rel=1e-3)
    below, above = (streamed(Case(), rate * f) for f in (0.999, 1.001))
    assert below.runs < below.always
    assert above.runs > above.always


@pytest.mark.parametrize("changes", SHOWN_CHANGES)
def test_at_the_price_up_to_which_it_costs_less_the_standing_run_costs_the_same(
    changes: float,
) -> None:
    price = streamed(Case(), changes).equal_pod_hour

    same = streamed(Case().having({"stream_pod_hour": price}), changes)

    assert same.standing == pytest.approx(same.runs)
