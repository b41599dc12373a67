"""GPU pods as a queue: against textbooks, and formulae against distributions."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rag_assets.core.costs.gpu_pool import Arrivals, Delay, Pod
from rag_assets.core.costs.inputs import Case
from rag_assets.core.costs.model import DAY, Policy
from rag_assets_tests.core.costs.simulated import CASES, case


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("policy", [Policy.STREAMING, Policy.HYBRID])
def test_the_distribution_of_waits_has_the_mean_of_the_formula(policy: Policy, name: str) -> None:
    pod = _pod(policy, case(name))

    waits = pod.waits()

    assert sum(wait.weight for wait in waits) == pytest.approx(1, abs=1e-6)
    assert sum(wait.weight * wait.mean for wait in waits) == pytest.approx(pod.wait, rel=1e-3)


def test_a_pod_without_start_or_rest_is_the_textbook_queue() -> None:
    jobs = Arrivals(rate=0.1, jobs=1, mean=6.0, variance=0.0)

    pod = Pod((jobs,), cold=0.0, idle=0.0)

    assert pod.off == pytest.approx(0.4)  # it is up while it works
    assert pod.wait == pytest.approx(0.6 * 6 / 2 / 0.4)  # M/D/1


def _pod(policy: Policy, of_case: Case) -> Pod:
    load, timings = of_case.workload, of_case.timings
    each = load.tokens_a_document / timings.stream_tokens_s
    mean, variance = timings.gpu_run_start_s + each, load.size_variance * each**2
    coming = [Arrivals(load.singles / DAY, 1, mean, variance)]
    if policy is Policy.STREAMING:
        coming.append(Arrivals(load.uploads / DAY, load.upload, mean, variance))
    return Pod.shared(coming, timings.cold_start_s, timings.idle_s, of_case.platform.max_load)[0]


@given(
    st.floats(0, 100),
    st.floats(0, 100),
    st.floats(0, 100),
    st.lists(st.floats(-10, 400), min_size=2),
)
@example(0.0, 5e-239, 5e-239, [0.0, 0.0])
@example(0.0, 5e-324, 0.0, [0.0, 0.0])
def test_a_delay_is_a_distribution(
    base: float, width: float, other: float, seconds: list[float]
) -> None:
    delay = Delay(1.0, base, width, other)

    shares = [delay.within(x) for x in sorted(seconds)]

    assert all(0 <= share <= 1 for share in shares)
    assert all(after >= before - 1e-6 for before, after in pairwise(shares))
    assert delay.within(base - 1) == 0
    assert delay.within(delay.longest + 1e-3) == 1
