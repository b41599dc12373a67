"""A report in words, tables and bars: the same sections for the UI, as Markdown, and terminals."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rag_assets.core.reports.report import QUANTILES, ModelStatus, Report, ShardState, Stage
from rag_assets.core.reports.spending import MANUAL

BAR = 20  # characters
EIGHTHS = " ▏▎▍▌▋▊▉█"
GRID_WIDTH = 64  # cells in a line
GRID_CELLS = 512  # in all; with more shards a cell stands for several
SHOWN = 15  # shards that are behind
MINUTE, HOUR, DAY = 60, 3600, 86400

GLYPHS = {
    ShardState.IN_SYNC: "█",
    ShardState.RUNNING: "▓",
    ShardState.STALE: "▒",
    ShardState.TO_BE_MADE: "░",
    ShardState.WAITING: "!",
    ShardState.REFUSED: "x",
    ShardState.NO_INPUT: "·",
}


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a report.

    Attributes:
        title: Its heading.
        summary: Sentences before the table.
        columns: The table's head; empty if there is none.
        rows: The table's rows.
        grid: Lines to be shown as they are, in type of one width, after the table.
    """

    title: str
    summary: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    grid: tuple[str, ...] = ()


def sections(report: Report) -> list[Section]:
    """Return the report's sections, the most important first."""
    return [
        Section(f"Ingestion of {report.source}", headline(report)),
        _models(report),
        _shards(report),
        *_behind(report),
        *_lags(report),
        _quarantine(report),
        _cost(report),
        _sensors(report),
    ]


def headline(report: Report) -> str:
    """Say in a few sentences whether all is well."""
    message = [f"{report.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC."]
    message.append(f"{report.listed:,} documents listed, {report.chunks:,} chunks.")
    if report.milvus:
        message.append(
            f"Milvus cannot be asked, so which model is live is not known: {report.milvus}"
        )
    elif report.live:
        message.append(f"Queries are answered from {report.live.model}.")
    else:
        message.append("No model is live yet.")
    behind = [
        f"{_of_shards(stage)} of {name} ({_left(stage)})"
        for name, stage in report.stages
        if stage.behind
    ]
    if behind:
        message.append(f"Behind: {'; '.join(behind)}.")
    elif report.listed:
        message.append("Everything that is listed is in sync.")
    return " ".join(message)


def markdown(parts: Iterable[Section]) -> str:
    """Return sections as GitHub's Markdown."""
    lines: list[str] = []
    for level, part in enumerate(parts):
        lines += [f"{'##' if level else '#'} {part.title}", ""]
        lines += [_plain(part.summary), ""] if part.summary else []
        if part.rows:
            lines += [_row(part.columns), _row(["---"] * len(part.columns))]
            lines += [*map(_row, part.rows), ""]
        lines += ["```", *part.grid, "```", ""] if part.grid else []
    return "\n".join(lines)


def bar(share: float, width: int = BAR) -> str:
    """Return a bar of at most `width` characters for a share from 0 to 1."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + EIGHTHS[rest].strip()


def grid(states: Sequence[ShardState], names: Sequence[str]) -> list[str]:
    """Return one character for each shard, in lines that begin with their first shard's name.

    With very many shards a character stands for several of them, and shows the one to look at
    first.
    """
    each = -(-len(states) // GRID_CELLS) or 1
    order = list(ShardState)
    cells = [max(states[i : i + each], key=order.index) for i in range(0, len(states), each)]
    return [
        f"{names[start * each]}  {''.join(GLYPHS[s] for s in cells[start : start + GRID_WIDTH])}"
        for start in range(0, len(cells), GRID_WIDTH)
    ]


def duration(seconds: float) -> str:
    """Return seconds in the unit that fits: 0.8 s, 42 s, 3.5 min, 2 h, 5.1 d."""
    units = (("s", 1, MINUTE), ("min", MINUTE, HOUR), ("h", HOUR, DAY), ("d", DAY, float("inf")))
    unit, length = next((unit, length) for unit, length, upto in units if seconds < upto)
    digits = 0 if length == 1 and seconds >= MINUTE / 6 else 1
    return f"{seconds / length:.{digits}f}".removesuffix(".0") + f" {unit}"


def _models(report: Report) -> Section:
    columns = ("model", "role", "in sync", "", "embedded", "rows in Milvus", "behind", "lag p95")
    rows = [_model(model, len(report.shards)) for model in report.models]
    summary = "" if rows else "No model is registered yet."
    problems = [f"{m.model}: {m.problem}" for m in report.models if m.problem]
    return Section("Models", summary or " ".join(problems), columns, tuple(rows))


def _model(model: ModelStatus, shards: int) -> tuple[str, ...]:
    rows = "" if model.rows is None else f"{model.rows:,}"
    if model.stage is None:
        return (model.model, model.role, "", "", "", rows, "", "")
    lag = model.lags.quantiles.get("p95") if model.lags else None
    return (
        model.model,
        model.role,
        bar(model.stage.in_sync / shards),
        f"{model.stage.in_sync} of {shards}",
        f"{model.embedded} of {shards}",
        rows,
        _left(model.stage),
        "" if lag is None else duration(lag),
    )


def _shards(report: Report) -> Section:
    found = [state for state in GLYPHS if any(state in stage.states for _, stage in report.stages)]
    columns = ("", *(state.value for state in found), "behind")
    rows = tuple(
        (name, *(f"{stage.states.count(state):,}" for state in found), _left(stage))
        for name, stage in report.stages
    )
    lines: list[str] = []
    for name, stage in report.stages:
        lines += [f"{name}:", *grid(stage.states, report.shards), ""]
    key = "   ".join(f"{GLYPHS[state]} {state.value}" for state in found)
    return Section("Shards", "", columns, rows, (*lines, key))


def _behind(report: Report) -> list[Section]:
    rows = [
        (
            report.shards[shard.shard],
            name,
            shard.state.value,
            f"{shard.work:,} {stage.unit}",
            shard.error + (f", again from {_clock(shard.until)}" if shard.until else ""),
        )
        for name, stage in report.stages
        for shard in stage.worst[:SHOWN]
    ]
    if not rows:
        return []
    columns = ("shard", "of", "state", "behind", "last failure")
    summary = f"At most {SHOWN} of each, those to look at first first."
    return [Section("Shards that are behind", summary, columns, tuple(rows))]


def _lags(report: Report) -> list[Section]:
    known = [(model, model.lags) for model in report.models if model.lags and model.lags.changes]
    if not known:
        return []
    columns = ("model", "changes", *QUANTILES)
    rows = [
        (model.model, f"{lags.changes:,}", *map(duration, lags.quantiles.values()))
        for model, lags in known
    ]
    summary = "From a document's modification until it could be found, over recent changes."
    charts: list[str] = []
    for model, lags in known:
        charts += [f"{model.model}:", *_distribution(lags.classes), ""]
    return [Section("Lag", summary, columns, tuple(rows), tuple(charts[:-1]))]


def _distribution(classes: Mapping[float, int]) -> list[str]:
    most, bounds = max(classes.values()), list(classes)
    names = [f"≤ {duration(bound)}" for bound in bounds[:-1]] + [f"> {duration(bounds[-2])}"]
    width = max(map(len, names))
    lines = zip(names, classes.values(), strict=True)
    return [f"{name:>{width}}  {count:>6,}  {bar(count / most)}".rstrip() for name, count in lines]


def _quarantine(report: Report) -> Section:
    found = report.quarantine
    if found.since is None:
        return Section("Quarantine", "No document is quarantined.")
    share = found.documents / max(report.parsed, 1)
    age = duration(report.at.timestamp() - found.since)
    most = max(found.outcomes.values())
    rows = [
        (outcome, f"{count:,}", bar(count / most))
        for outcome, count in sorted(found.outcomes.items(), key=lambda item: (-item[1], item[0]))
    ]
    summary = (
        f"{found.documents:,} documents, {share:.1%} of all, the oldest for {age}. The check"
        " quarantine names them, the job retry_quarantined tries them again."
    )
    return Section("Quarantine", summary, ("outcome", "documents", ""), tuple(rows))


def _cost(report: Report) -> Section:
    spent = report.spending.spent
    if not spent:
        return Section("Cost so far", "Nothing was embedded yet.")
    most = max(one.seconds for one in spent) or 1
    columns = ("model", "lane", "texts", "tokens", "model time", "", "tokens/s", "GPU hours")
    rows = [
        (
            *(one.model, one.lane, f"{one.texts:,}", f"{one.tokens:,}"),
            *(duration(one.seconds), bar(one.seconds / most)),
            f"{one.tokens_per_second:,.0f}",
            f"{one.gpu_seconds / HOUR:,.2f}" if one.gpu_seconds else "",
        )
        for one in spent
    ]
    summary = f"What finished runs embedded; {MANUAL!r} are those that no sensor asked for."
    if not report.spending.complete:
        summary += " Earlier runs are still being added up: the next report has more of them."
    return Section("Cost so far", summary, columns, tuple(rows))


def _sensors(report: Report) -> Section:
    rows = [
        (
            one.sensor,
            "running" if one.running else "stopped",
            duration(report.at.timestamp() - one.at) + " ago" if one.at else "never",
            one.message,
        )
        for one in report.sensors
    ]
    summary = "" if rows else "No sensor has looked yet: Dagster's daemon does not run."
    return Section("Sensors", summary, ("sensor", "", "last looked", "said"), tuple(rows))


def _left(stage: Stage) -> str:
    return f"{stage.backlog:,} {stage.unit}" if stage.behind else ""


def _of_shards(stage: Stage) -> str:
    return f"{len(stage.behind):,} of {len(stage.states):,} shards"


def _clock(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S} UTC"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(text: str) -> str:
    """Return text that means nothing else in Markdown, in one line."""
    escaped = "".join(f"\\{char}" if char in "\\|*_`<>[]#~" else char for char in text)
    return " ".join(escaped.split())
