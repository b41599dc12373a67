"""The cost model: against a simulation, by its properties, and the reference case."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_assets.core.costs.gpu_pool import Arrivals, Delay, Pod
from rag_assets.core.costs.inputs import Case, inputs
from rag_assets.core.costs.model import DAY, HOUR, Costs, Kind, Policy, cost, ratio
from rag_assets.core.costs.sweeps import RANGES, break_even, sensitivity
from rag_assets.core.errors import ConfigurationError
from rag_assets_tests.core.costs.simulation import Found, Simulation

DOCS = Path(__file__).parents[3] / "docs" / "costs.md"

# Name → what differs from the reference case, days, tolerance of means, of p50 and p95.
CASES: dict[str, tuple[dict[str, float], int, float, float]] = {
    "reference": ({}, 100, 0.15, 0.2),
    "embedding server": ({"gpu_run_start_s": 0}, 60, 0.1, 0.15),
    "small, sleeping often": (
        {
            **{"documents_a_day": 400, "bulk_share": 0.5, "uploads_a_day": 8, "idle_s": 120},
            **{"shards_per_run": 4, "batches_a_day": 4},
        },
        300,
        0.05,
        0.1,
    ),
    "no idling, uneven sizes": (
        {
            **{"documents_a_day": 600, "bulk_share": 0.2, "uploads_a_day": 2, "idle_s": 0},
            **{"chunk_spread": 1.4, "stream_tokens_s": 500},
        },
        300,
        0.05,
        0.1,
    ),
}


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("name", CASES)
def test_the_closed_form_agrees_with_a_simulation(name: str, policy: Policy) -> None:
    changed, days, tolerance, of_quantiles = CASES[name]
    case = Case().having(changed)
    closed = cost(policy, case)
    found = Simulation(policy, case, days, closed.gpu_pods, seed=11).run()

    usage, counted = _usage(closed), _counted(found, days)
    assert usage == pytest.approx(counted, rel=0.03)
    for kind in Kind:
        delays, said = np.array(found.delays[kind]), closed.freshness[kind]
        assert said.mean == pytest.approx(delays.mean(), rel=tolerance), kind
        quantiles = np.quantile(delays, [0.5, 0.95])
        assert [said.p50, said.p95] == pytest.approx(quantiles, rel=of_quantiles), kind


def _usage(costs: Costs) -> dict[str, float]:
    return {
        "GPU hours": costs.gpu_hours,
        "embedding hours": costs.gpu_busy_hours,
        "GPU starts": costs.gpu_starts,
        "CPU hours": costs.cpu_hours,
        "runs": costs.runs,
        "shards": costs.puts / Case().platform.shard_puts,
    }


def _counted(found: Found, days: int) -> dict[str, float]:
    return {
        "GPU hours": found.gpu / HOUR / days,
        "embedding hours": found.gpu_busy / HOUR / days,
        "GPU starts": found.gpu_starts / days,
        "CPU hours": found.cpu / HOUR / days,
        "runs": found.runs / days,
        "shards": found.shards / days,
    }


@pytest.mark.parametrize("changed", [changed for changed, *_ in CASES.values()])
@pytest.mark.parametrize("policy", [Policy.STREAMING, Policy.HYBRID])
def test_the_distribution_of_waits_has_the_mean_of_the_formula(
    policy: Policy, changed: dict[str, float]
) -> None:
    pod = _pod(policy, Case().having(changed))

    waits = pod.waits()

    assert sum(wait.weight for wait in waits) == pytest.approx(1, abs=1e-6)
    assert sum(wait.weight * wait.mean for wait in waits) == pytest.approx(pod.wait, rel=1e-3)


def test_a_pod_without_start_or_rest_is_the_textbook_queue() -> None:
    jobs = Arrivals(rate=0.1, jobs=1, mean=6.0, variance=0.0)

    pod = Pod((jobs,), cold=0.0, idle=0.0)

    assert pod.off == pytest.approx(0.4)  # it is up while it works
    assert pod.wait == pytest.approx(0.6 * 6 / 2 / 0.4)  # M/D/1


def _pod(policy: Policy, case: Case) -> Pod:
    load, timings = case.workload, case.timings
    each = load.tokens_a_document / timings.stream_tokens_s
    mean, variance = timings.gpu_run_start_s + each, load.size_variance * each**2
    coming = [Arrivals(load.singles / DAY, 1, mean, variance)]
    if policy is Policy.STREAMING:
        coming.append(Arrivals(load.uploads / DAY, load.upload, mean, variance))
    return Pod.shared(coming, timings.cold_start_s, timings.idle_s, case.platform.max_load)[0]


cases = st.builds(
    lambda **values: Case().having(values),
    documents_a_day=st.floats(1, 100_000),
    bulk_share=st.floats(0, 1),
    uploads_a_day=st.floats(0.1, 100),
    chunk_spread=st.floats(0, 2),
    idle_s=st.floats(0, 10_000),
    cold_start_s=st.floats(0, 1_000),
    gpu_run_start_s=st.floats(0, 100),
    shards=st.integers(1, 1_000),
)


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from(Policy))
@example(Case().having({"bulk_share": 5e-324}), Policy.STREAMING)  # as good as nothing
def test_costs_are_possible(case: Case, policy: Policy) -> None:
    costs = cost(policy, case)

    assert 0 < costs.gpu_busy_hours <= costs.gpu_hours * (1 + 1e-9)
    assert costs.gpu_starts >= 0  # e^(-λT) may be too small for a float
    assert costs.runs <= 2 * costs.documents * (1 + 1e-9) or policy is not Policy.STREAMING
    assert all(0 < one.p50 <= one.p95 for one in costs.freshness.values())
    assert sum(d.weight for _, d in costs.delays()) == pytest.approx(costs.documents, rel=1e-4)


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from(Policy), st.floats(1, 10))
def test_nothing_gets_cheaper_by_higher_prices_slower_models_or_larger_documents(
    case: Case, policy: Policy, factor: float
) -> None:
    before = cost(policy, case).indexing

    for name in ("gpu_hour", "cpu_hour", "put_requests", "chunks_a_document", "parse_s"):
        assert cost(policy, _times(case, name, factor)).indexing >= before * (1 - 1e-9), name
    assert cost(policy, _times(case, "bulk_tokens_s", factor)).indexing <= before * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(cases, st.sampled_from([Policy.STREAMING, Policy.HYBRID]), st.floats(1, 10))
def test_idling_longer_costs_more_hours_and_fewer_cold_starts(
    case: Case, policy: Policy, factor: float
) -> None:
    before, after = cost(policy, case), cost(policy, _times(case, "idle_s", factor))

    assert after.gpu_starts <= before.gpu_starts * (1 + 1e-9)
    if case.timings.idle_s >= case.timings.cold_start_s:  # else it may save more than it takes
        assert after.gpu_hours >= before.gpu_hours * (1 - 1e-9)


def _times(case: Case, name: str, factor: float) -> Case:
    return case.having({name: case.value(name) * factor})


@given(
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 100),
    st.lists(st.floats(-10, 400), min_size=2),
)
def test_a_delay_is_a_distribution(
    base: float, width: float, other: float, seconds: list[float]
) -> None:
    delay = Delay(1.0, base, width, other)

    shares = [delay.within(x) for x in sorted(seconds)]

    assert all(0 <= share <= 1 for share in shares)
    assert all(after >= before - 1e-6 for before, after in pairwise(shares))
    assert delay.within(base - 1) == 0
    assert delay.within(delay.longest + 1e-3) == 1


def test_the_reference_case_is_what_the_documentation_says() -> None:
    case = Case()
    costs = {policy: cost(policy, case) for policy in Policy}

    assert [round(one.indexing, 2) for one in costs.values()] == [54.20, 19.58, 0.54]
    assert [round(one.gpu_hours, 2) for one in costs.values()] == [64.42, 23.98, 0.50]
    assert round(ratio(case), 2) == 2.77
    assert round(ratio(case.having({"gpu_run_start_s": 0})), 2) == 1.10  # an embedding server
    text = DOCS.read_text()
    for said in ("54.20", "19.58", "2.77", "1.10"):
        assert said in text


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


def test_an_input_that_there_is_not_and_a_value_out_of_bounds_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no input gpu_year; it has documents_a_day"):
        Case().having({"gpu_year": 1})
    with pytest.raises(ConfigurationError, match=r"bulk_share: .*less than or equal to 1"):
        Case().having({"bulk_share": 2})
