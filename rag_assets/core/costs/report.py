"""The cost model's report: all of its results for one case, as plain records and numbers.

How they are shown belongs in `sections`; how they are computed in `model` and `sweeps`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rag_assets.core.costs.inputs import Case, inputs
from rag_assets.core.costs.model import Costs, Policy, cost
from rag_assets.core.costs.sweeps import (
    RANGES,
    SHOWN_CHANGES,
    BreakEven,
    Effect,
    Streamed,
    break_even,
    sensitivity,
    standing_break_even,
    streamed,
)
from rag_assets.core.costs.usage import HOURS, Usage

ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class CostReport:
    """Assumptions, and everything that follows from them.

    Attributes:
        case: The inputs.
        origins: Where inputs come from that are not assumed: name → given, measured or set.
        policies: What each policy costs.
        effects: Effect of each input on the ratio of streaming to hybrid, largest first.
        break_evens: Where streaming costs as much as hybrid.
        streamed: What single updates cost, streamed by a standing run and by stream runs.
        standing_break_evens: Where stream runs cost as much as the standing run, and as much as one
            that always stays.
        usage: What this instance has used; None if the report is of no instance.
    """

    case: Case
    origins: Mapping[str, str]
    policies: tuple[Costs, ...]
    effects: tuple[Effect, ...]
    break_evens: tuple[BreakEven, ...]
    streamed: tuple[Streamed, ...]
    standing_break_evens: tuple[BreakEven, ...]
    usage: Usage | None = None

    @property
    def dollars_per_day(self) -> float:
        """What this instance's runs of the last day have cost."""
        return sum(self.usage.dollars(self.case.prices).values()) if self.usage else 0.0

    @property
    def ratio(self) -> float:
        """Indexing cost of streaming divided by that of hybrid."""
        by_policy = {one.policy: one.indexing for one in self.policies}
        return by_policy[Policy.STREAMING] / by_policy[Policy.HYBRID]

    def origin(self, name: str) -> str:
        """Return where an input's value comes from: assumed, set, measured or given."""
        return self.origins.get(name, ASSUMED)

    def metrics(self) -> dict[str, float]:
        """Return the measured numbers, for plots over time; what is calculated is an example."""
        if self.usage is None:
            return {}
        hours = {HOURS[work]: hours for work, hours in self.usage.hours.items()}
        return {"dollars_per_day": self.dollars_per_day, **hours}

    def as_dict(self) -> dict[str, Any]:
        """Return the whole report as plain values."""
        return {
            "measured": self.metrics(),
            "inputs": {
                name: {"value": self.case.value(name), "unit": unit, "from": self.origin(name)}
                for _, name, _, unit in inputs()
            },
            "policies": {one.policy.value: _as_dict(one) for one in self.policies},
            "streaming_by_hybrid": self.ratio,
            "sensitivity": [asdict(effect) for effect in self.effects],
            "break_even": [asdict(one) for one in self.break_evens],
            "streamed": [asdict(one) for one in self.streamed],
            "standing_break_even": [asdict(one) for one in self.standing_break_evens],
        }


def cost_report(
    *,
    configured: Mapping[str, Any] | None = None,
    measured: Mapping[str, Any] | None = None,
    given: Mapping[str, Any] | None = None,
    usage: Usage | None = None,
) -> CostReport:
    """Evaluate the model for the reference case, with inputs replaced by name; later ones win.

    Args:
        configured: Inputs that are settings of the platform.
        measured: Inputs that the platform's runs have measured.
        given: Inputs that the user states.
        usage: What the platform's runs of the last day have used.

    Raises:
        ConfigurationError: An input is unknown or out of range.
    """
    layers = {"set": configured or {}, "measured": measured or {}, "given": given or {}}
    origins = {name: origin for origin, values in layers.items() for name in values}
    merged = {name: value for values in layers.values() for name, value in values.items()}
    case = Case().having(merged)
    return CostReport(
        case,
        origins,
        policies=tuple(cost(policy, case) for policy in Policy),
        effects=tuple(sensitivity(case)),
        break_evens=tuple(break_even(case, name) for name in RANGES),
        streamed=tuple(streamed(case, changes) for changes in SHOWN_CHANGES),
        standing_break_evens=standing_break_even(case),
        usage=usage,
    )


def _as_dict(costs: Costs) -> dict[str, Any]:
    plain = {name: getattr(costs, name) for name in costs.__slots__ if name != "delays"}
    return plain | {
        "indexing": costs.indexing,
        "per_thousand": costs.per_thousand,
        "utilisation": costs.utilisation,
        "freshness": {kind: asdict(fresh) for kind, fresh in costs.freshness.items()},
    }
