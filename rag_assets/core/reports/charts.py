"""Charts of the reports: small SVG pictures inside Markdown, with axes, for light and dark pages.

Every materialisation stores its charts in the event log for good, and Dagster's UI shows Markdown
where an asset is opened only if it is shorter than `INLINE` characters. A plotting library's
smallest picture is 20 times as long. So the pictures are drawn here, with as few words as possible.

What belongs here: drawing. What does not: what is drawn (`history.py`, `sections.py`).
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from math import ceil, floor, log10
from urllib.parse import quote
from xml.sax.saxutils import escape

INLINE = 1000  # characters of Markdown from which the UI shows a link to it instead
COLUMNS = 60  # points of a line, at most
COLOURS = ("steelblue", "chocolate", "seagreen", "mediumpurple")
"""Readable on white and on black, and without the # that a URL would have to escape."""
ROW, PAGE = (296, 66), (560, 90)  # width and height in pixels of a chart over time
SIZES = (260, 66)  # of a histogram
LEFT, TOP, BOTTOM = 50, 20, 18  # pixels around it
DASH = 8  # pixels, for a single point
NAMES, BARS, VALUES, BAR, GAP = 130, 300, 80, 14, 8  # pixels of a chart of bars
MAX_NAME = 22  # characters beside a bar
STEPS = 3  # between the ticks of an axis, at most
MINUTE, HOUR, DAY = 60, 3600, 86400
THOUSAND, MILLION = 1e3, 1e6
DURATIONS = (
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, MINUTE, 120, 300, 600, 1200, 1800),
    *(HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR, DAY),
)
SAFE = " /=':;,.()-+$!*~<>"  # what a URL between < and > in Markdown need not escape

Label = Callable[[float], str]
Sample = tuple[float, float]
"""A time in seconds since the epoch, and a value."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Values over time.

    Attributes:
        title: What is shown, for those who cannot see the picture.
        series: Name → samples in order of time.
        label: Formats a value with its unit.
        begin: The earliest time of the axis, in seconds since the epoch.
        durations: Whether the ticks are at round durations instead of round numbers.
    """

    title: str
    series: Mapping[str, Sequence[Sample]]
    label: Label
    begin: float
    durations: bool = False

    def markdown(self) -> str:
        """Return the chart."""
        return picture(self.title, self._svg(COLUMNS, *PAGE))

    def inline(self) -> str:
        """Return the chart with as many points as the UI shows without a link."""
        sizes = range(COLUMNS, 1, -2)
        drawn = (picture(self.title, self._svg(columns, *ROW)) for columns in sizes)
        return next((chart for chart in drawn if len(chart) < INLINE), self.title)

    def _svg(self, columns: int, width: int, height: int) -> str:
        samples = [sample for series in self.series.values() for sample in series]
        first, last = self.begin, max(at for at, _ in samples)
        ticks = _ticks(max(value for _, value in samples), durations=self.durations)
        bottom, right = TOP + height, width - LEFT

        def y(value: float) -> int:
            return bottom - round(value / ticks[-1] * height)

        def x(at: float) -> int:
            return width if first == last else LEFT + round((at - first) / (last - first) * right)

        lines = "".join(
            f"<path stroke='{colour}' d='{_path([(x(at), y(value)) for at, value in points])}'/>"
            for series, colour in zip(self.series.values(), COLOURS, strict=False)
            for points in [_peaks(series, first, last, columns)]
        )
        newest = {
            f"{name} {self.label(all_[-1][1])}": colour
            for (name, all_), colour in zip(self.series.items(), COLOURS, strict=False)
        }
        begin, end = _times(first, last)
        return (
            _head(width + 2, bottom + BOTTOM)
            + _axes(ticks, self.label, (width, height), (begin, end))
            + _legend(newest)
            + f"<g fill='none' stroke-width='2' stroke-linecap='round'>{lines}</g></svg>"
        )


@dataclass(frozen=True, slots=True)
class Bars:
    """Amounts side by side, each of which may have parts.

    Attributes:
        title: What is shown, for those who cannot see the picture.
        parts: Name → colour of each part; the only one may have no name.
        rows: Name → the amount of each part.
        label: Formats an amount with its unit.
        durations: Whether the ticks are at round durations instead of round numbers.
    """

    title: str
    parts: Mapping[str, str]
    rows: Mapping[str, Sequence[float]]
    label: Label
    durations: bool = False

    def markdown(self) -> str:
        """Return the chart."""
        return picture(self.title, self.svg())

    def svg(self) -> str:
        """Return the picture alone."""
        top = TOP if any(self.parts) else 4
        ticks = _ticks(max(map(sum, self.rows.values())), durations=self.durations)
        scale, bottom = BARS / ticks[-1], top + len(self.rows) * (BAR + GAP)
        grid = "".join(f"M{NAMES + round(tick * scale)} {top}V{bottom}" for tick in ticks)
        marks = "".join(
            f"<text x='{NAMES + round(tick * scale)}' y='{bottom + 14}'>{self.label(tick)}</text>"
            for tick in ticks
        )
        names, bars = "", ""
        for number, (name, amounts) in enumerate(self.rows.items()):
            y = top + number * (BAR + GAP) + GAP // 2
            shown = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
            names += f"<text x='{NAMES - 6}' y='{y + 11}'>{escape(shown)}</text>"
            bars += "".join(_bar(amounts, self.parts.values(), scale, y))
            end = NAMES + round(sum(amounts) * scale) + 5
            bars += f"<text x='{end}' y='{y + 11}'>{escape(self.label(sum(amounts)))}</text>"
        return (
            f"{_head(NAMES + BARS + VALUES, bottom + BOTTOM)}"
            f"<path stroke='gray' opacity='.4' d='{grid}'/><g text-anchor='middle'>{marks}</g>"
            f"<g text-anchor='end'>{names}</g>{bars}"
            + (_legend(self.parts) if any(self.parts) else "")
            + "</svg>"
        )


def number(value: float) -> str:
    """Format a number for an axis: 0.5, 120, 1,500, 20k, 3.5M."""
    if value >= MILLION:
        return f"{value / MILLION:,.3g}M"
    if value >= 10 * THOUSAND:
        return f"{value / THOUSAND:,.3g}k"
    return f"{value:,.0f}" if value >= THOUSAND / 10 else f"{value:.3g}"


def dollars(value: float) -> str:
    """Format an amount: $0.004, $2.50, $1,200.00."""
    if value >= 1 / 10 or not value:
        return f"${value:,.2f}"
    return f"${value:.{1 - floor(log10(value))}f}".rstrip("0")


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often values are in each of several equal ranges from 0 to a bound.

    Attributes:
        title: What is shown, for those who cannot see the picture.
        counts: The number of values in each range.
        ends: The labels of 0 and the bound.
        over: Whether values above the bound are in the last range, which is then red.
    """

    title: str
    counts: Sequence[int]
    ends: tuple[str, str]
    over: bool = False

    def inline(self) -> str:
        """Return the chart, short enough for the UI to show it without a link."""
        return picture(self.title, self.svg())

    def svg(self) -> str:
        """Return the picture alone."""
        ticks = _ticks(max(self.counts), durations=False)
        (width, height), colours = SIZES, [COLOURS[0]] * len(self.counts)
        if self.over:
            colours[-1] = "crimson"
        wide = (width - LEFT) // len(self.counts)
        bars = dict.fromkeys(colours, "")
        for place, (count, colour) in enumerate(zip(self.counts, colours, strict=True)):
            if tall := round(count / ticks[-1] * height):
                bars[colour] += f"M{LEFT + place * wide} {TOP + height}v-{tall}h{wide - 1}v{tall}"
        drawn = "".join(f"<path fill='{colour}' d='{d}'/>" for colour, d in bars.items())
        axes = _axes(ticks, number, (LEFT + wide * len(self.counts), height), self.ends)
        return f"{_head(width + 2, TOP + height + BOTTOM)}{axes}{drawn}</svg>"


def picture(title: str, svg: str) -> str:
    """Return an SVG as an image in Markdown."""
    url = quote(svg, safe=SAFE).replace("<", "\\<").replace(">", "\\>")
    return f"![{title}](<data:image/svg+xml,{url}>)"


def _head(width: int, height: int) -> str:
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height}'"
        " font-family='sans-serif' font-size='11' fill='gray'>"
    )


def _axes(
    ticks: Sequence[float], label: Label, size: tuple[int, int], ends: tuple[str, str]
) -> str:
    """Return lines at the ticks with their labels, and the labels of both ends below."""
    (width, height), (begin, end) = size, ends
    bottom = TOP + height
    heights = {tick: bottom - round(tick / ticks[-1] * height) for tick in ticks}
    grid = "".join(f"M{LEFT} {y}h{width - LEFT}" for y in heights.values())
    marks = "".join(
        f"<text x='{LEFT - 6}' y='{y + 4}'>{escape(label(tick))}</text>"
        for tick, y in heights.items()
    )
    return (
        f"<path stroke='gray' opacity='.4' d='{grid}'/>"
        f"<g text-anchor='end'>{marks}<text x='{width}' y='{bottom + 16}'>{end}</text></g>"
        + (f"<text x='{LEFT}' y='{bottom + 16}'>{begin}</text>" if begin else "")
    )


def _legend(names: Mapping[str, str]) -> str:
    x, shown = LEFT, ""
    for name, colour in names.items():
        shown += f"<text x='{x}' y='11' fill='{colour}'>{escape(name)}</text>"
        x += 6 * len(name) + 12
    return shown


def _bar(amounts: Iterable[float], colours: Iterable[str], scale: float, y: int) -> Iterator[str]:
    x = NAMES
    for amount, colour in zip(amounts, colours, strict=True):
        if width := round(amount * scale):
            yield f"<path fill='{colour}' d='M{x} {y}h{width}v{BAR}h-{width}'/>"
        x += width


def _path(points: Sequence[tuple[int, int]]) -> str:
    """Return a line through points; a single one as a dash."""
    (x, y), path = points[0], "l"
    for (left, before), (right, after) in pairwise(points):
        path += f"{right - left} {after - before} ".replace(" -", "-")
    if not points[1:]:
        return f"M{x - DASH} {y}h{DASH}"
    return f"M{x} {y}{path.rstrip()}"


def _peaks(samples: Sequence[Sample], first: float, last: float, columns: int) -> list[Sample]:
    """Return the largest value of each of so many equal spans of time, at the middle of each."""
    span = (last - first) / (columns - 1) or 1.0
    peaks: dict[int, float] = {}
    for at, value in samples:
        column = round((at - first) / span)
        peaks[column] = max(value, peaks.get(column, value))
    return [(first + column * span, value) for column, value in peaks.items()]


def _ticks(largest: float, *, durations: bool) -> list[float]:
    """Return round values from 0 to at least the largest, few of them."""
    least = largest / STEPS
    if durations and least <= DURATIONS[-1]:
        step = next(step for step in DURATIONS if step >= least)
    else:
        unit = DAY if durations else 1
        power = 10.0 ** floor(log10(least / unit)) if least else 1.0
        step = unit * next(power * by for by in (1, 2, 5, 10) if unit * power * by >= least)
    return [step * number for number in range(max(1, ceil(largest / step)) + 1)]


def _times(first: float, last: float) -> tuple[str, str]:
    """Return the labels of both ends of an axis; the first is empty if they are the same."""
    begin, end = datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(last, UTC)
    if first == last:
        return "", f"{end:%d %b %H:%M} UTC"
    return f"{begin:%d %b %H:%M}", f"{end:%d %b %H:%M} UTC"
