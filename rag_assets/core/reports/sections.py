"""The presentation of the ingestion report: sections of text, tables and charts.

The UI shows them as Markdown with pictures, the command line as tables and characters.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rag_assets.core.names import Check, Job
from rag_assets.core.reports.charts import COLOURS, DAY, HOUR, MINUTE, Bars, Lines, number
from rag_assets.core.reports.report import (
    QUANTILES,
    Lags,
    ModelStatus,
    Report,
    ShardState,
    SourceStatus,
    Stage,
)
from rag_assets.core.reports.spending import MANUAL

BAR = 20  # characters
EIGHTHS = " ▏▎▍▌▋▊▉█"
GRID_WIDTH = 64  # cells per line
GRID_CELLS = 512  # with more shards, a cell represents several
MAX_SHARDS_BEHIND = 15  # listed per stage

GLYPHS = {
    ShardState.IN_SYNC: "█",
    ShardState.RUNNING: "▓",
    ShardState.STALE: "▒",
    ShardState.TO_BE_BUILT: "░",
    ShardState.WAITING: "!",
    ShardState.BLOCKED: "x",
    ShardState.NO_INPUT: "·",
}
SHADES = {
    ShardState.IN_SYNC: "seagreen",
    ShardState.RUNNING: "steelblue",
    ShardState.STALE: "goldenrod",
    ShardState.TO_BE_BUILT: "mediumpurple",
    ShardState.WAITING: "chocolate",
    ShardState.BLOCKED: "crimson",
    ShardState.NO_INPUT: "gray",
}


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a report.

    Attributes:
        title: The heading.
        summary: The text before the table.
        columns: The header of the table; empty if there is no table.
        rows: The rows of the table.
        grid: What a terminal shows after the table, in a monospaced font.
        charts: What a page shows before the table instead.
    """

    title: str
    summary: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    grid: tuple[str, ...] = ()
    charts: tuple[Lines | Bars, ...] = ()


def sections(report: Report, over_time: Iterable[Lines] = ()) -> list[Section]:
    """Return the sections of a report, most important first, the first with charts over time."""
    return [
        Section(f"Ingestion of {report.source}", headline(report), charts=tuple(over_time)),
        *(source_sections(report.sources, report.at.timestamp()) if report.sources[1:] else ()),
        _models(report),
        _shards(report),
        *_behind(report),
        *_lags(report),
        _outcomes(report),
        _quarantine(report),
        _cost(report),
        _sensors(report),
    ]


def headline(report: Report) -> str:
    """Summarise a report in a few sentences, problems first."""
    behind = [
        f"{len(stage.behind):,} of {len(stage.states):,} shards of {name} ({_backlog(stage)})"
        for name, stage in report.stages
        if stage.behind
    ]
    sentences = [doubt.sentence for doubt in report.doubts]
    if failing := [source.name for source in report.sources if source.problem]:
        sentences.append(f"Cannot be listed: {', '.join(failing)}.")
    if report.milvus:
        sentences.append(f"Milvus cannot be reached, so the live model is unknown: {report.milvus}")
    if behind:
        sentences.append(f"Behind: {'; '.join(behind)}.")
    elif report.listed:
        sentences.append("Everything listed is in sync.")
    if report.live:
        sentences.append(f"Queries are answered from {report.live.model}.")
    elif not report.milvus:
        sentences.append("No model is live yet.")
    counts = f"{report.listed:,} documents listed, {report.outcomes.with_text:,} with text"
    sentences.append(f"{counts}, {report.chunks:,} chunks.")
    sentences.append(f"As of {report.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC.")
    return " ".join(sentences)


def markdown(parts: Iterable[Section]) -> str:
    """Return sections as GitHub-flavoured Markdown."""
    lines: list[str] = []
    for level, part in enumerate(parts):
        lines += [f"{'##' if level else '#'} {part.title}", ""]
        lines += [_plain(part.summary), ""] if part.summary else []
        for chart in part.charts:
            lines += [f"**{_plain(chart.title)}**", "", chart.markdown(), ""]
        if part.rows:
            lines += [_row(part.columns), _row(["---"] * len(part.columns))]
            lines += [*map(_row, part.rows), ""]
    return "\n".join(lines)


def bar(share: float) -> str:
    """Return a bar of at most `BAR` characters for a share from 0 to 1."""
    eighths = round(min(max(share, 0.0), 1.0) * BAR * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + EIGHTHS[rest].strip()


def grid(states: Sequence[ShardState], names: Sequence[str]) -> list[str]:
    """Return one character per shard, in lines that begin with the name of their first shard.

    With very many shards, a character represents several of them and shows the most urgent state.
    """
    per_cell = -(-len(states) // GRID_CELLS) or 1
    order = list(ShardState)
    starts = range(0, len(states), per_cell)
    cells = [max(states[start : start + per_cell], key=order.index) for start in starts]
    lines = []
    for first in range(0, len(cells), GRID_WIDTH):
        glyphs = "".join(GLYPHS[state] for state in cells[first : first + GRID_WIDTH])
        lines.append(f"{names[first * per_cell]}  {glyphs}")
    return lines


def duration(seconds: float) -> str:
    """Format seconds in a suitable unit: 0.8 s, 42 s, 3.5 min, 2 h, 5.1 d.

    Something in the future, of another clock, counts as just now.
    """
    seconds = max(0.0, seconds)
    units = (("s", 1, MINUTE), ("min", MINUTE, HOUR), ("h", HOUR, DAY), ("d", DAY, float("inf")))
    unit, length = next((unit, length) for unit, length, upto in units if seconds < upto)
    digits = 0 if length == 1 and seconds >= MINUTE / 6 else 1
    return f"{seconds / length:.{digits}f}".removesuffix(".0") + f" {unit}"


def source_sections(sources: Sequence[SourceStatus], at: float) -> list[Section]:
    """Return the sections about sources, at a time in seconds: two tables, which fit a terminal."""
    if not sources:
        return []
    columns = ("source", "state", "listed", "text", "quarantined", "share", "lag p95")
    rows = [
        (
            *(one.name, str(one.state), f"{one.documents:,}", f"{one.with_text:,}"),
            *(f"{one.quarantined:,}", f"{one.share:.0%}", _p95(one.lags)),
            _ago(one.listed_at or None, at),
        )
        for one in sources
    ]
    summary = (
        "Share: of the bytes of all documents with text, and so roughly of the cost of embedding."
    )
    places = tuple((one.name, one.url, one.problem) for one in sources)
    return [
        Section("Sources", summary, (*columns, "last listed"), tuple(rows)),
        Section("Places of the sources", "", ("source", "URL", "problem"), places),
    ]


def _models(report: Report) -> Section:
    columns = ("model", "role", "in sync", "embedded", "rows", "backlog", "lag p95")
    rows = [_model(model, len(report.shards)) for model in report.models]
    summary = "" if rows else "No model is registered yet."
    problems = [f"{m.model}: {m.problem}" for m in report.models if m.problem]
    message = " ".join(filter(None, [report.serving, *problems]))
    return Section("Models", summary or message, columns, tuple(rows))


def _model(model: ModelStatus, shards: int) -> tuple[str, ...]:
    rows = "" if model.rows is None else f"{model.rows:,}"
    if model.stage is None:
        return (model.model, model.role, "", "", rows, "", "")
    return (
        model.model,
        model.role,
        f"{model.stage.in_sync} of {shards}",
        f"{model.embedded} of {shards}",
        rows,
        _backlog(model.stage),
        _p95(model.lags),
    )


def _p95(lags: Lags | None) -> str:
    lag = lags.quantiles.get("p95") if lags else None
    return "" if lag is None else duration(lag)


def _ago(then: float | None, now: float) -> str:
    return duration(now - then) + " ago" if then else "never"


def _shards(report: Report) -> Section:
    present = {state for _, stage in report.stages for state in stage.states}
    shown = [state for state in GLYPHS if state in present]
    columns = ("stage", *(state.value for state in shown), "backlog")
    rows = tuple(
        (name, *(f"{stage.states.count(state):,}" for state in shown), _backlog(stage))
        for name, stage in report.stages
    )
    lines: list[str] = []
    for name, stage in report.stages:
        lines += [f"{name}:", *grid(stage.states, report.shards), ""]
    key = "   ".join(f"{GLYPHS[state]} {state.value}" for state in shown)
    bars = {name: [float(stage.states.count(s)) for s in shown] for name, stage in report.stages}
    chart = Bars("Shards by state", {s.value: SHADES[s] for s in shown}, bars, number)
    return Section("Shards", "", columns, rows, (*lines, key), (chart,) if shown else ())


def _behind(report: Report) -> list[Section]:
    rows = [
        (
            report.shards[shard.shard],
            name,
            shard.state.value,
            f"{shard.work:,} {stage.unit}",
            shard.error + (f", retry from {_clock(shard.until)}" if shard.until else ""),
        )
        for name, stage in report.stages
        for shard in stage.worst[:MAX_SHARDS_BEHIND]
    ]
    if not rows:
        return []
    columns = ("shard", "stage", "state", "backlog", "last error")
    summary = f"Up to {MAX_SHARDS_BEHIND} per stage, most urgent first."
    return [Section("Shards behind", summary, columns, tuple(rows))]


def _lags(report: Report) -> list[Section]:
    known = [(model, model.lags) for model in report.models if model.lags and model.lags.changes]
    if not known:
        return []
    columns = ("model", "changes", *QUANTILES)
    rows = [
        (model.model, f"{lags.changes:,}", *map(duration, lags.quantiles.values()))
        for model, lags in known
    ]
    summary = "Time from a document's modification until it is searchable, over recent changes."
    lines: list[str] = []
    for model, lags in known:
        lines += [f"{model.model}:", *_distribution(lags.classes), ""]
    charts = tuple(
        Bars(
            f"Changes by lag, {model.model}",
            {"": COLOURS[0]},
            {name: [count] for name, count in _named(lags.classes).items()},
            number,
        )
        for model, lags in known
    )
    return [Section("Lag", summary, columns, tuple(rows), tuple(lines[:-1]), charts)]


def _named(classes: Mapping[float, int]) -> dict[str, int]:
    bounds = list(classes)
    names = [f"≤ {duration(bound)}" for bound in bounds[:-1]] + [f"> {duration(bounds[-2])}"]
    return dict(zip(names, classes.values(), strict=True))


def _distribution(classes: Mapping[float, int]) -> list[str]:
    named, largest = _named(classes), max(classes.values())
    width = max(map(len, named))
    return [
        f"{name:>{width}}  {count:>6,}  {bar(count / largest)}".rstrip()
        for name, count in named.items()
    ]


def _outcomes(report: Report) -> Section:
    outcomes = report.outcomes
    if not outcomes.documents:
        return Section("Documents", "None has been parsed yet.")
    rows = [(outcome, f"{count:,}") for outcome, count in outcomes.by_outcome()]
    summary = f"{outcomes.with_text:,} of {outcomes.documents:,} documents have text in the index."
    if outcomes.skipped:
        extensions = ", ".join(f"{count:,} {name}" for name, count in outcomes.skipped.items())
        summary += f" Skipped, by extension: {extensions}."
    return Section("Documents", summary, ("outcome", "documents"), tuple(rows))


def _quarantine(report: Report) -> Section:
    quarantine = report.quarantine
    if quarantine.since is None:
        return Section("Quarantine", "No document is quarantined.")
    share = quarantine.documents / max(report.parsed, 1)
    age = duration(report.at.timestamp() - quarantine.since)
    rows = [
        (outcome, f"{count:,}")
        for outcome, count in sorted(
            quarantine.outcomes.items(), key=lambda item: (-item[1], item[0])
        )
    ]
    summary = (
        f"Documents: {quarantine.documents:,}, {share:.1%} of all, the oldest for {age}. The"
        f" {Check.QUARANTINE} check lists them; the {Job.RETRY_QUARANTINED} job retries them."
    )
    return Section("Quarantine", summary, ("outcome", "documents"), tuple(rows))


def _cost(report: Report) -> Section:
    spent = report.spending.spent
    if not spent:
        return Section("Cost so far", "Nothing has been embedded yet.")
    columns = ("model", "lane", "texts", "tokens", "model time", "tokens/s", "GPU hours")
    rows = [
        (
            *(one.model, one.lane, f"{one.texts:,}", f"{one.tokens:,}"),
            duration(one.seconds),
            f"{one.tokens_per_second:,.0f}",
            f"{one.gpu_seconds / HOUR:,.2f}" if one.gpu_seconds else "",
        )
        for one in spent
    ]
    summary = f"Embedding by finished runs; {MANUAL!r} are runs that no sensor requested."
    if not report.spending.complete:
        summary += " Not all finished runs are included yet; the next report will include more."
    return Section("Cost so far", summary, columns, tuple(rows))


def _sensors(report: Report) -> Section:
    rows = [
        (
            one.sensor,
            "running" if one.running else "stopped",
            _ago(one.at, report.at.timestamp()),
            one.message,
        )
        for one in report.sensors
    ]
    summary = "" if rows else "No sensor has ticked yet: the Dagster daemon is not running."
    return Section("Sensors", summary, ("sensor", "status", "last tick", "message"), tuple(rows))


def _backlog(stage: Stage) -> str:
    return f"{stage.backlog:,} {stage.unit}" if stage.behind else ""


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S} UTC"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Return the text on one line, with Markdown's special characters escaped."""
    escaped = "".join(f"\\{char}" if char in "\\|*_`<>[]#~" else char for char in text)
    return " ".join(escaped.split())
