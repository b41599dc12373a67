"""The cost model: against the simulation's numbers, by its properties, and the reference case."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_assets.core.costs.inputs import Case
from rag_assets.core.costs.model import Costs, Kind, Policy, cost, ratio
from rag_assets_tests.core.costs.simulated import CASES, COMMAND, case, conditions, stored

# Name → tolerance of means, of p50 and p95: uploads that pile up vary that much.
TOLERANCES = {
    "reference": (0.15, 0.2),
    "embedding server": (0.1, 0.15),
    "small, sleeping often": (0.05, 0.1),
    "no idling, uneven sizes": (0.05, 0.1),
}


@pytest.mark.parametrize("policy", Policy)
@pytest.mark.parametrize("name", CASES)
def test_the_closed_form_agrees_with_a_simulation(name: str, policy: Policy) -> None:
    closed, simulated = cost(policy, case(name)), stored(name)["policies"][policy]
    tolerance, of_quantiles = TOLERANCES[name]

    assert _usage(closed) == pytest.approx(simulated["usage"], rel=0.03)
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
        "runs": costs.runs,
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
    shards=st.integers(1, 1_000),
)


@settings(max_examples=60)
@given(cases, st.sampled_from(Policy))
@example(Case().having({"bulk_share": 5e-324}), Policy.STREAMING)  # as good as nothing
def test_costs_are_possible(of_case: Case, policy: Policy) -> None:
    costs = cost(policy, of_case)

    assert 0 < costs.gpu_busy_hours <= costs.gpu_hours * (1 + 1e-9)
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

    for name in ("gpu_hour", "cpu_hour", "put_requests", "chunks_a_document", "parse_s"):
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


def _times(of_case: Case, name: str, factor: float) -> Case:
    return of_case.having({name: of_case.value(name) * factor})


def test_the_reference_case_costs_what_it_always_did() -> None:
    costs = {policy: cost(policy, Case()) for policy in Policy}

    assert [round(one.indexing, 2) for one in costs.values()] == [54.20, 19.58, 0.54]
    assert [round(one.gpu_hours, 2) for one in costs.values()] == [64.42, 23.98, 0.50]
    assert round(ratio(Case()), 2) == 2.77
    assert round(ratio(case("embedding server")), 2) == 1.10
