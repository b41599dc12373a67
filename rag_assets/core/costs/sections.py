"""The cost model's answer in words, tables and bars, for the UI and terminals alike."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rag_assets.core.costs.inputs import Case, inputs
from rag_assets.core.costs.model import Costs, Policy, cost
from rag_assets.core.costs.sweeps import BreakEven, Effect, break_evens, sensitivity
from rag_assets.core.reports.sections import Section, bar, duration

SHOWN = 12  # inputs in the sensitivity, those that move the ratio most


@dataclass(frozen=True, slots=True)
class CostReport:
    """Assumptions, and all that follows from them.

    Attributes:
        case: The inputs.
        origins: Where each comes from that is no assumption of ours: name → given, measured, set.
        policies: What each costs.
        effects: Of each input on the ratio of streaming to hybrid, the largest first.
        turns: Where streaming costs as much as hybrid.
    """

    case: Case
    origins: Mapping[str, str]
    policies: tuple[Costs, ...]
    effects: tuple[Effect, ...]
    turns: tuple[BreakEven, ...]

    @classmethod
    def of(cls, case: Case, origins: Mapping[str, str]) -> "CostReport":
        """Work a case out."""
        policies = tuple(cost(policy, case) for policy in Policy)
        return cls(case, origins, policies, tuple(sensitivity(case)), tuple(break_evens(case)))

    @property
    def ratio(self) -> float:
        """How many times as much as hybrid pure streaming costs, for indexing alone."""
        by_policy = {one.policy: one.indexing for one in self.policies}
        return by_policy[Policy.STREAMING] / by_policy[Policy.HYBRID]

    def metrics(self) -> dict[str, float]:
        """Return what is worth plotting: dollars a day, and seconds."""
        found = {"streaming_by_hybrid": self.ratio}
        for one in self.policies:
            found[f"{one.policy}_dollars_a_day"] = one.indexing
            found[f"{one.policy}_freshness_p95"] = one.freshness["all"].p95
        return found

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {
            "inputs": {
                name: {
                    "value": self.case.value(name),
                    "unit": unit,
                    "from": self.origins.get(name, "assumed"),
                }
                for _, name, _, unit in inputs()
            },
            "policies": {one.policy.value: _as_dict(one) for one in self.policies},
            "streaming_by_hybrid": self.ratio,
            "sensitivity": [asdict(effect) for effect in self.effects],
            "break_even": [asdict(turn) for turn in self.turns],
        }


def cost_sections(report: CostReport) -> list[Section]:
    """Return the report's sections."""
    return [
        Section("What indexing costs", _headline(report)),
        _money(report.policies),
        _usage(report.policies),
        _freshness(report.policies),
        _sensitivity(report.effects, report.ratio),
        _break_even(report.turns),
        _assumptions(report),
    ]


def _headline(report: CostReport) -> str:
    load, costs = report.case.workload, {one.policy: one for one in report.policies}
    streaming, hybrid = costs[Policy.STREAMING], costs[Policy.HYBRID]
    return (
        f"{load.documents_a_day:,g} documents a day, {load.bulk_share:.0%} of them in"
        f" {load.uploads:g} uploads of {load.upload:,.0f}. Streaming each costs"
        f" ${streaming.indexing:,.2f} a day for indexing, hybrid ${hybrid.indexing:,.2f}: streaming"
        f" costs {report.ratio:.2f} times as much."
    )


def _money(policies: Sequence[Costs]) -> Section:
    most = max(one.indexing for one in policies) or 1
    columns = ("policy", "indexing", "", "/1,000", "GPU", "CPU", "S3", "Milvus")
    rows = [
        (
            *(one.policy.value, f"{one.indexing:,.2f}", bar(one.indexing / most)),
            f"{one.per_thousand:,.2f}",
            *(f"{money:,.2f}" for money in one.money.values()),
        )
        for one in policies
    ]
    says = (
        "Dollars a day, and for 1,000 documents. Indexing is GPU, CPU and S3; Milvus serves queries"
        " whatever the policy."
    )
    return Section("Policies", says, columns, tuple(rows))


def _usage(policies: Sequence[Costs]) -> Section:
    columns = ("policy", "GPU h", "used", "cold starts", "CPU h", "runs", "S3 requests")
    rows = [
        (
            *(one.policy.value, f"{one.gpu_hours:,.2f}", f"{one.utilisation:.1%}"),
            *(f"{one.gpu_starts:,.1f}", f"{one.cpu_hours:,.2f}", f"{one.runs:,.0f}"),
            f"{one.gets + one.puts:,.0f}",
        )
        for one in policies
    ]
    return Section("What is used", "A day.", columns, tuple(rows))


def _freshness(policies: Sequence[Costs]) -> Section:
    found = [(one.policy.value, one.freshness) for one in policies]
    slowest = max(fresh.p95 for _, kinds in found for fresh in kinds.values())
    rows = [
        (policy, kind, *map(duration, (fresh.mean, fresh.p50, fresh.p95)), bar(fresh.p95 / slowest))
        for policy, kinds in found
        for kind, fresh in kinds.items()
    ]
    says = "From a document's change until it can be found."
    return Section("Freshness", says, ("policy", "", "mean", "p50", "p95", ""), tuple(rows))


def _sensitivity(effects: Sequence[Effect], ratio: float) -> Section:
    rows = [(one.name, f"{one.halved:.2f}", f"{one.doubled:.2f}") for one in effects[:SHOWN]]
    says = (
        f"Streaming by hybrid is {ratio:.2f}; so much with half of an input and with twice as much"
        " (a share: at most 1). The inputs that move it most."
    )
    return Section("Sensitivity", says, ("input", "halved", "doubled"), tuple(rows))


def _break_even(turns: Sequence[BreakEven]) -> Section:
    units = {name: unit for _, name, _, unit in inputs()}
    rows = [
        (
            turn.name,
            f"{turn.low:,g} to {turn.high:,g} {units[turn.name]}".strip(),
            ", ".join(f"{value:,.4g}" for value in turn.at) or "none",
            *(f"{end:.2f}" for end in turn.ratios),
        )
        for turn in turns
    ]
    says = (
        "Where the cheaper of the two changes while one input moves and all others stay; and"
        " streaming by hybrid at both ends. With none, what is cheaper at the ends stays so."
    )
    columns = ("input", "looked at", "equal at", "lowest", "highest")
    return Section("Break-even", says, columns, tuple(rows))


def _assumptions(report: CostReport) -> Section:
    rows = [
        (
            name,
            f"{report.case.value(name):,.6g}",
            unit,
            report.origins.get(name, "assumed"),
            str(field.description),
        )
        for _, name, field, unit in inputs()
    ]
    says = "Assumed prices are examples: put in your own."
    return Section("Assumptions", says, ("input", "value", "unit", "", "meaning"), tuple(rows))


def _as_dict(costs: Costs) -> dict[str, Any]:
    plain = {name: getattr(costs, name) for name in costs.__slots__ if name != "delays"}
    return plain | {
        "indexing": costs.indexing,
        "per_thousand": costs.per_thousand,
        "utilisation": costs.utilisation,
        "freshness": {kind: asdict(fresh) for kind, fresh in costs.freshness.items()},
    }
