"""What an instance has used in the last day, measured, and what that costs at given prices.

What belongs here: adding up and pricing. What does not: reading runs (`instance/runs.py`), and what
other policies or loads would cost, which the model calculates (`model.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass

from rag_assets.core.costs.inputs import Prices
from rag_assets.core.scheduling.pods import Work

NAMES = {
    Work.CPU: "runs without a model",
    Work.GPU: "runs with a model",
    Work.STREAM: "standing stream run",
}
HOURS = {
    Work.CPU: "hours_without_model",
    Work.GPU: "hours_with_model",
    Work.STREAM: "hours_of_stream_run",
}
"""The names of the hours of each kind as metrics."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The hours of runs in the last 24 hours, from their start to their end.

    Attributes:
        hours: Hours by what the runs needed.
        gpu: Whether anything has been embedded on a GPU; otherwise models run on CPUs.
    """

    hours: Mapping[Work, float]
    gpu: bool = False

    def price(self, work: Work) -> str:
        """Return the name of the price of an hour."""
        names = {Work.STREAM: "stream_pod_hour", Work.GPU: "gpu_hour" if self.gpu else "cpu_hour"}
        return names.get(work, "cpu_hour")

    def dollars(self, prices: Prices) -> dict[Work, float]:
        """Return what each kind of run has cost."""
        return {
            work: hours * float(getattr(prices, self.price(work)))
            for work, hours in self.hours.items()
        }
