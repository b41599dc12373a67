"""Sensitivity and break-even points."""

import pytest

from rag_assets.core.costs.inputs import Case, inputs
from rag_assets.core.costs.model import ratio
from rag_assets.core.costs.sweeps import RANGES, break_even, sensitivity


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
    case = Case().having({"gpu_run_start_s": 0})  # where it is close

    turn = break_even(case, name)

    sides = [ratio(case.having({name: x * f})) > 1 for x in turn.at for f in (0.9999, 1.0001)]
    assert all(below != above for below, above in zip(sides[::2], sides[1::2], strict=True))


def test_there_are_break_even_points() -> None:
    assert break_even(Case(), "bulk_share").at == pytest.approx([0.04, 0.0571], rel=1e-3)
