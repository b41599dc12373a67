"""The cost report in words, tables and charts, for the UI and terminals alike.

Only presentation belongs here: no number is computed that `CostReport` does not have.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

from rag_assets.core.costs.inputs import inputs
from rag_assets.core.costs.model import Costs, Policy
from rag_assets.core.costs.report import ASSUMED, CostReport
from rag_assets.core.costs.sweeps import BreakEven, Effect, Streamed
from rag_assets.core.costs.usage import NAMES
from rag_assets.core.reports.charts import COLOURS, HOUR, Bars, Lines, dollars
from rag_assets.core.reports.sections import Section, duration

SHOWN = 12  # inputs in the sensitivity table, those with the largest effect


def cost_sections(report: CostReport) -> list[Section]:
    """Return all sections: what was measured, then what the model calculates."""
    return [
        *_measured(report),
        _comparison(report),
        _money(report.policies),
        _usage(report.policies),
        _freshness(report.policies),
        _streamed(report.streamed, report.standing_break_evens),
        _sensitivity(report.effects, report.ratio),
        _break_even(report.break_evens),
        _assumptions(report),
    ]


def cost_summary(report: CostReport, over_time: Iterable[Lines]) -> list[Section]:
    """Return the sections for the event log, which keeps every report, with charts over time."""
    return [
        *_measured(report, over_time),
        _comparison(report),
        _money(report.policies),
        _freshness(report.policies),
        _assumptions(report),
    ]


def measured_sentence(report: CostReport) -> str:
    """Say what this instance has cost, and what the prices are."""
    usage = report.usage
    if usage is None or not usage.hours:
        return "No run of this instance has been measured in the last 24 hours."
    prices = {report.origin(usage.price(work)) for work in usage.hours}
    hint = " Give yours in RAG_ASSETS_COST_ASSUMPTIONS." if ASSUMED in prices else ""
    return (
        f"Measured: this instance's runs of the last 24 hours took"
        f" {duration(sum(usage.hours.values()) * HOUR)} and cost {dollars(report.dollars_per_day)}"
        f" at {'example' if hint else 'your'} prices.{hint}"
    )


def _measured(report: CostReport, over_time: Iterable[Lines] = ()) -> list[Section]:
    usage = report.usage
    if usage is None:
        return []
    spent = usage.dollars(report.case.prices)
    rows = [
        (
            *(NAMES[work], duration(hours * HOUR), f"{report.case.value(usage.price(work)):,.6g}"),
            *(report.origin(usage.price(work)), dollars(spent[work])),
        )
        for work, hours in usage.hours.items()
    ]
    summary = (
        f"{measured_sentence(report)} A run's time is from its start to its end, without the start"
        " of its pod. Milvus, Dagster, the embedding server and storage are not included."
    )
    columns = ("runs", "time", "$/hour", "price", "cost")
    title = "What this instance costs"
    return [Section(title, summary, columns, tuple(rows), charts=tuple(over_time))]


def _comparison(report: CostReport) -> Section:
    load, costs = report.case.workload, {one.policy: one for one in report.policies}
    streaming, hybrid = costs[Policy.STREAMING], costs[Policy.HYBRID]
    origins = {report.origin(name) for name in ("documents_a_day", "bulk_share", "uploads_a_day")}
    summary = (
        f"Calculated, not measured, for a load that is {' or '.join(sorted(origins))}:"
        f" {load.documents_a_day:,g} documents per day, {load.bulk_share:.0%} of them in"
        f" {load.uploads:g} uploads of {load.upload:,.0f}. Streaming every document would"
        f" cost ${streaming.indexing:,.2f} per day for indexing, hybrid ${hybrid.indexing:,.2f}:"
        f" streaming costs {report.ratio:.2f} times as much."
    )
    return Section("What the policies would cost", summary, charts=_bars(report.policies))


def _bars(policies: Sequence[Costs]) -> tuple[Bars, ...]:
    spent = [name for name in policies[0].money if name != "Milvus"]
    money = {one.policy.value: [one.money[name] for name in spent] for one in policies}
    late = {one.policy.value: [one.freshness["all"].p95] for one in policies}
    only = {"": COLOURS[0]}
    return (
        Bars(
            "Calculated cost of indexing per day",
            dict(zip(spent, COLOURS, strict=True)),
            money,
            dollars,
        ),
        Bars(
            "Calculated time until 95% of changes are found", only, late, duration, durations=True
        ),
    )


def _money(policies: Sequence[Costs]) -> Section:
    columns = ("policy", "indexing", "per 1,000", "GPU", "CPU", "stream run", "S3", "Milvus")
    rows = [
        (
            *(one.policy.value, f"{one.indexing:,.2f}", f"{one.per_thousand:,.2f}"),
            *(f"{money:,.2f}" for money in one.money.values()),
        )
        for one in policies
    ]
    summary = (
        "Dollars per day, and per 1,000 documents. Indexing is GPU, CPU, the standing stream run"
        " and S3; Milvus serves queries under every policy and is not part of it."
    )
    return Section("Policies", summary, columns, tuple(rows))


def _usage(policies: Sequence[Costs]) -> Section:
    columns = (
        *("policy", "GPU h", "GPU busy", "starts", "CPU h", "stream h", "runs"),
        "S3 requests",
    )
    rows = [
        (
            *(one.policy.value, f"{one.gpu_hours:,.2f}", f"{one.utilisation:.1%}"),
            *(f"{one.gpu_starts:,.1f}", f"{one.cpu_hours:,.2f}", f"{one.standing_hours:,.2f}"),
            *(f"{one.runs:,.0f}", f"{one.gets + one.puts:,.0f}"),
        )
        for one in policies
    ]
    return Section(
        "Resources",
        "Resources used per day; starts are cold starts of GPU pods.",
        columns,
        tuple(rows),
    )


def _freshness(policies: Sequence[Costs]) -> Section:
    found = [(one.policy.value, one.freshness) for one in policies]
    rows = [
        (policy, kind, *map(duration, (fresh.mean, fresh.p50, fresh.p95)))
        for policy, kinds in found
        for kind, fresh in kinds.items()
    ]
    summary = "Time from a document's change until queries can find it."
    columns = ("policy", "documents", "mean", "p50", "p95")
    return Section("Freshness", summary, columns, tuple(rows))


def _streamed(found: Sequence[Streamed], break_evens: Sequence[BreakEven]) -> Section:
    rows = [
        (
            *(f"{one.changes:,.0f}", f"{one.up:.1%}", f"{one.starts:,.1f}"),
            *(f"{dollars:,.2f}" for dollars in (one.standing, one.always, one.runs)),
            f"{one.equal_pod_hour:,.2f}",
        )
        for one in found
    ]
    summary = (
        "Single updates alone, in dollars per day for indexing: with the standing stream run, with"
        " one that always stays, and with stream runs; and the price per hour of the standing run's"
        " pod up to which it costs less. What embeds for it is only counted if the pod's price"
        f" includes it. {' '.join(map(_compared, break_evens))}"
    )
    columns = (
        *("updates/day", "up", "starts", "standing run", "always stays", "stream runs"),
        "less up to $/h",
    )
    return Section("Standing run or stream runs", summary, columns, tuple(rows))


def _compared(one: BreakEven) -> str:
    spans = list(pairwise((one.low, *one.at, one.high)))[one.ratios[0] <= 1 :: 2]
    less = " and ".join(f"{low:,.0f} to {high:,.0f}" for low, high in spans)
    searched = f"no number from {one.low:,.0f} to {one.high:,.0f}"
    return f"The {one.name} costs less than stream runs with {less or searched} updates per day."


def _sensitivity(effects: Sequence[Effect], ratio: float) -> Section:
    rows = [(one.name, f"{one.halved:.2f}", f"{one.doubled:.2f}") for one in effects[:SHOWN]]
    summary = (
        f"Streaming costs {ratio:.2f} times as much as hybrid. How this ratio changes if one input"
        " is halved or doubled (within its bounds), for the inputs with the largest effect."
    )
    return Section("Sensitivity", summary, ("input", "halved", "doubled"), tuple(rows))


def _break_even(found: Sequence[BreakEven]) -> Section:
    units = {name: unit for _, name, _, unit in inputs()}
    rows = [
        (
            one.name,
            f"{one.low:,.7g} to {one.high:,.7g} {units[one.name]}".strip(),
            ", ".join(f"{value:,.4g}" for value in one.at) or "none",
            *(f"{end:.2f}" for end in one.ratios),
        )
        for one in found
    ]
    summary = (
        "Where streaming and hybrid cost the same if one input varies and the others stay fixed,"
        " and the ratio of streaming to hybrid at both ends of the range. If there is none, the"
        " policy that is cheaper at the ends is cheaper throughout."
    )
    columns = ("input", "range", "equal at", "low end", "high end")
    return Section("Break-even", summary, columns, tuple(rows))


def _assumptions(report: CostReport) -> Section:
    rows = [
        (
            *(name, f"{report.case.value(name):,.6g}", unit),
            *(report.origin(name), str(field.description)),
        )
        for _, name, field, unit in inputs()
    ]
    summary = "Assumed prices are examples: replace them with your own."
    columns = ("input", "value", "unit", "from", "meaning")
    return Section("Assumptions", summary, columns, tuple(rows))
