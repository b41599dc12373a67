"""What an instance has used: it is priced by what runs needed, and said with whose prices."""

import pytest

from rag_assets.core.costs import CostReport, Usage, measured_sentence
from rag_assets.core.costs.inputs import Case, Prices
from rag_assets.core.scheduling.pods import Work

PRICES = {"gpu_hour": 2.0, "cpu_hour": 0.5, "stream_pod_hour": 0.25}
HOURS = {Work.CPU: 2.0, Work.GPU: 1.0, Work.STREAM: 4.0}


@pytest.mark.parametrize(("gpu", "with_model"), [(True, 2.0), (False, 0.5)])
def test_runs_with_a_model_cost_a_gpu_if_the_instance_has_used_one(
    *, gpu: bool, with_model: float
) -> None:
    dollars = Usage(HOURS, gpu).dollars(Prices(**PRICES))

    assert dollars == {Work.CPU: 1.0, Work.GPU: with_model, Work.STREAM: 1.0}


def report(usage: Usage | None, **prices: float) -> CostReport:
    """Return a report of what was measured, without the calculation."""
    origins = dict.fromkeys(prices, "given")
    return CostReport(Case().having(prices), origins, (), (), (), (), (), usage)


def test_a_report_says_what_was_measured_and_whose_prices_they_are() -> None:
    assumed, own = report(Usage({Work.CPU: 0.5})), report(Usage({Work.CPU: 0.5}), **PRICES)

    assert "took 30 min and cost $0.05 at example prices." in measured_sentence(assumed)
    assert measured_sentence(own).endswith("took 30 min and cost $0.25 at your prices.")
    assert own.metrics() == {"dollars_per_day": 0.25, "hours_without_model": 0.5}


def test_without_runs_nothing_is_claimed() -> None:
    assert "No run of this instance" in measured_sentence(report(Usage({})))
    assert report(None).metrics() == {}
