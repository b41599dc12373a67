"""The cost model: against the simulation's numbers, by its properties, and the reference case."""

from math import exp

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_assets.core.costs.inputs import Case
from rag_assets.core.costs.model import DAY, Costs, Kind, Policy, cost, ratio
from rag_assets_tests.core.costs.simulated import (
    CASES,
    COMMAND,
    SIMULATED,
    case,
    conditions,
    stored,
)

# Name → tolerance of means, of p50 and p95: uploads that pile up vary that much.
TOLERANCES = {
    "reference": (0.15, 0.2),
    "stream runs": (0.15, 0.2),
    "embedding server": (0.1, 0.15),
    "small, sleeping often": (0.05, 0.1),
    "no idling, uneven sizes": (0.05, 0.1),
    "standing run, ending often": (0.05, 0.1),
    "standing run, often busy": (0.05, 0.1),
    "standing run, always": (0.05, 0.2),  # the sizes of documents, which are taken as uniform
}
FEW_STARTS = 0.15  # per day: the standing run of the reference case starts about once a day


@pytest.mark.parametrize(("name", "policy"), SIMULATED)
def test_the_closed_form_agrees_with_a_simulation(name: str, policy: Policy) -> None:
    closed, simulated = cost(policy, case(name)), stored(name)["policies"][policy]
    tolerance, of_quantiles = TOLERANCES[name]

    usage, starts = simulated["usage"], simulated["usage"]["standing starts"]
    runs = [closed.standing_starts, closed.runs]
    assert _usage(closed) == pytest.approx({key: usage[key] for key in _usage(closed)}, rel=0.03)
    assert runs == pytest.approx([starts, usage["runs"]], rel=0.03, abs=FEW_STARTS)
    for kind in Kind:
        fresh, expected = closed.freshness[kind], simulated[kind]
        assert fresh.mean == pytest.approx(expected["mean"], rel=tolerance), kind
        quantiles = [expected["p50"], expected["p95"]]
        assert [fresh.p50, fresh.p95] == pytest.approx(quantiles, rel=of_quantiles), kind


@pytest.mark.parametrize("name", CASES)
def test_the_stored_simulation_is_of_the_case_as_it_is_now(name: str) -> None:
    assert stored(name)["conditions"] == conditions(name), f"Simulate it again: {COMMAND}"


def _usage(costs: Costs) -> dict[str, float]:
    return {
        "GPU hours": costs.gpu_hours,
        "embedding hours": costs.gpu_busy_hours,
        "GPU starts": costs.gpu_starts,
        "CPU hours": costs.cpu_hours,
        "standing hours": costs.standing_hours,
        "shards": costs.puts / Case().platform.shard_puts,
    }


cases = st.builds(
    lambda **values: Case().having(values),
    documents_a_day=st.floats(1, 100_000),
    bulk_share=st.floats(0, 1),
    uploads_a_day=st.floats(0.1, 100),
    chunk_spread=st.floats(0, 2),
    idle_s=st.floats(0, 10_000),
    cold_start_s=st.floats(0, 1_000),
    gpu_run_start_s=st.floats(0, 100),
    stream_run=st.booleans(),
    stream_idle_seconds=st.floats(0, 10_000),
    stream_change_seconds=st.floats(0.01, 100),
    shards=st.integers(1, 1_000),
)


@settings(max_examples=60)
@given(cases, st.sampled_from(Policy))
@example(Case().having({"bulk_share": 5e-324}), Policy.STREAMING)  # as good as nothing
def test_costs_are_possible(of_case: Case, policy: Policy) -> None:
    costs = cost(policy, of_case)

    assert 0 <= costs.gpu_busy_hours <= costs.gpu_hours * (1 + 1e-9)
    assert 0 <= costs.standing_hours <= 24
    assert costs.gpu_busy_hours + costs.standing_hours > 0
    assert costs.gpu_starts >= 0  # e^(-λT) may be too small for a float
    assert costs.runs <= 2 * costs.documents * (1 + 1e-9) or policy is not Policy.STREAMING
    assert all(0 < one.p50 <= one.p95 for one in costs.freshness.values())
    assert sum(d.weight for _, d in costs.delays()) == pytest.approx(costs.documents, rel=1e-4)


@settings(max_examples=60)
@given(cases, st.sampled_from(Policy), st.floats(1, 10))
def test_nothing_gets_cheaper_by_higher_prices_slower_models_or_larger_documents(
    of_case: Case, policy: Policy, factor: float
) -> None:
    before = cost(policy, of_case).indexing

    prices = ("gpu_hour", "cpu_hour", "stream_pod_hour", "put_requests")
    for name in (*prices, "chunks_a_document", "parse_s"):
        assert cost(policy, _times(of_case, name, factor)).indexing >= before * (1 - 1e-9), name
    faster = _times(of_case, "bulk_tokens_s", factor)
    assert cost(policy, faster).indexing <= before * (1 + 1e-9)


@settings(max_examples=60)
@given(cases, st.sampled_from([Policy.STREAMING, Policy.HYBRID]), st.floats(1, 10))
def test_idling_longer_costs_more_hours_and_fewer_cold_starts(
    of_case: Case, policy: Policy, factor: float
) -> None:
    before, after = cost(policy, of_case), cost(policy, _times(of_case, "idle_s", factor))

    assert after.gpu_starts <= before.gpu_starts * (1 + 1e-9)
    if of_case.timings.idle_s >= of_case.timings.cold_start_s:  # else it may save more
        assert after.gpu_hours >= before.gpu_hours * (1 - 1e-9)


@settings(max_examples=60)
@given(cases, st.floats(1, 10))
def test_a_standing_run_that_stays_longer_costs_more_hours_and_starts_less_often(
    of_case: Case, factor: float
) -> None:
    before = cost(Policy.HYBRID, of_case)
    after = cost(Policy.HYBRID, _times(of_case, "stream_idle_seconds", factor))

    timings = of_case.timings
    assert after.standing_starts <= before.standing_starts * (1 + 1e-9)
    if timings.stream_idle_seconds >= timings.run_start_s + timings.gpu_run_start_s:
        assert after.standing_hours >= before.standing_hours * (1 - 1e-9)


@pytest.mark.parametrize("changes", [1, 30, 144, 1_000])
def test_a_standing_run_without_start_and_work_is_up_if_something_has_come_lately(
    changes: float,
) -> None:
    nothing = {"run_start_s": 0, "gpu_run_start_s": 0, "stream_change_seconds": 1e-9}

    costs = cost(Policy.HYBRID, Case().having({**_edits(changes), **nothing}))

    nothing_came = exp(-changes * 600 / DAY)
    assert costs.standing_hours == pytest.approx(24 * (1 - nothing_came))
    assert costs.standing_starts == pytest.approx(changes * nothing_came)


def test_what_is_too_much_for_the_standing_run_goes_to_bulk_runs() -> None:
    most = 0.8 * DAY / 0.2

    within, beyond = (
        cost(Policy.HYBRID, Case().having(_edits(most + more))) for more in (-1, 1_000)
    )

    assert within.gpu_hours == 0
    assert within.utilisation == 0
    assert beyond.gpu_starts == pytest.approx(1_000 / Case().platform.stream_documents)
    assert beyond.standing_hours == pytest.approx(24)


@pytest.mark.parametrize(("idle", "hours"), [(600, 0), (0, 24)])
def test_without_changes_only_a_standing_run_that_always_stays_is_up(
    idle: float, hours: float
) -> None:
    nothing = Case().having({"bulk_share": 1, "stream_idle_seconds": idle})

    assert cost(Policy.HYBRID, nothing).standing_hours == hours


@pytest.mark.parametrize("policy", [Policy.STREAMING, Policy.BATCH])
def test_the_standing_run_is_part_of_hybrid_alone(policy: Policy) -> None:
    with_it, without = (
        cost(policy, Case().having({"stream_run": runs})).money for runs in (True, False)
    )

    assert with_it == without
    assert with_it["stream run"] == 0


def _edits(changes: float) -> dict[str, float]:
    return {"documents_a_day": changes, "bulk_share": 0}


def _times(of_case: Case, name: str, factor: float) -> Case:
    return of_case.having({name: of_case.value(name) * factor})


def test_what_the_reference_case_costs_with_stream_runs() -> None:
    costs = {policy: cost(policy, case("stream runs")) for policy in Policy}

    assert [round(one.indexing, 2) for one in costs.values()] == [54.85, 19.65, 0.55]
    assert [round(one.gpu_hours, 2) for one in costs.values()] == [64.42, 23.98, 0.50]
    assert round(ratio(case("stream runs")), 2) == 2.79
    assert round(ratio(case("embedding server")), 2) == 1.13


def test_a_standing_run_makes_the_reference_case_cheaper() -> None:
    costs = cost(Policy.HYBRID, Case())

    assert {name: round(money, 2) for name, money in costs.money.items()} == {
        **{"GPU": 0.45, "CPU": 0.13, "stream run": 1.20, "S3": 0.11, "Milvus": 9.60}
    }
    assert round(ratio(Case()), 1) == 29.1
