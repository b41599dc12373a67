"""Numbers as Excel displays them, by the format codes of cells and charts.

What belongs here: the language of format codes. What does not: finding a cell's code.

Two things differ from the screen on purpose. A number without a format has all its digits, whatever
the width of its column. A date whose format depends on the reader's locale is in ISO's form.
"""

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import lru_cache

GENERAL = "General"
ISO_DATE, ISO_DATE_TIME = "yyyy-mm-dd", "yyyy-mm-dd hh:mm"
# The codes of built-in formats, which files name by number; dates in the reader's locale as ISO.
BUILT_IN = {
    **{0: GENERAL, 1: "0", 2: "0.00", 3: "#,##0", 4: "#,##0.00", 9: "0%", 10: "0.00%"},
    **{5: "#,##0", 6: "#,##0", 7: "#,##0.00", 8: "#,##0.00", 11: "0.00E+00", 12: "# ?/?"},
    **{13: "# ??/??", 14: ISO_DATE, 15: "d-mmm-yy", 16: "d-mmm", 17: "mmm-yy"},
    **{18: "h:mm AM/PM", 19: "h:mm:ss AM/PM", 20: "h:mm", 21: "h:mm:ss", 22: ISO_DATE_TIME},
    **dict.fromkeys((*range(27, 32), 36, *range(50, 59)), ISO_DATE),
    **{37: "#,##0", 38: "#,##0", 39: "#,##0.00", 40: "#,##0.00", 45: "mm:ss"},
    **{41: "#,##0", 42: "#,##0", 43: "#,##0.00", 44: "#,##0.00"},
    **{46: "[h]:mm:ss", 47: "mm:ss.0", 48: "##0.0E+0", 49: "@"},
}
_TOKEN = re.compile(
    r"\"(?P<quoted>[^\"]*)\"?|\\(?P<escaped>.)|_.|\*.|\[(?P<bracket>[^\]]*)\]"
    r"|(?P<general>General)|(?P<half>AM/PM|A/P)|(?P<exponent>E[+-])"
    r"|(?P<date>y+|m+|d+|h+|s+|e+|b+|g+|a{3,4}(?!/))|(?P<digits>[0#?.,/%@]+)|(?P<other>.)",
    re.IGNORECASE | re.DOTALL,
)
_LOCALE_DATE = re.compile(r"\[\$-(?:[0-9a-f]*)?F[84]00\]|\[\$-x-sys(date|time)\]", re.IGNORECASE)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July", "August", "September"),
    *("October", "November", "December"),
)
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_EPOCH, _EPOCH_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)
_MAX_EXACT = 1e15  # integers that Excel keeps all digits of
_DIGITS = 15
_MIN_EXPONENT = -10  # of a number that is written with its zeros
_NOON = 12
_LEAP_BUG_DAY = 60
_LAST_DAY = 2_958_466  # the first day that Excel has no date for, 1 January 10000


def render(value: float, code: str, *, since_1904: bool = False) -> str:
    """Return a number as its format displays it.

    Args:
        value: The number; a date is a number of days.
        code: The format code, for instance `0.00%`.
        since_1904: Whether days count from 1904, as in workbooks from old Macs.
    """
    if code == GENERAL:
        return general(value)
    if plain := _plain(code):
        return plain.render(value)
    if not math.isfinite(value):
        return str(value)
    section, shown, negated = _section(code, value)
    tokens = _tokens(section)
    kinds = {kind for kind, _ in tokens}
    if not kinds or kinds & {"general", "text"}:
        return _literals(tokens, general(value))
    if kinds & {"date", "elapsed", "half"}:
        return _date(value, section, tokens, since_1904)
    text = _number(abs(shown), tokens)
    return f"-{text}" if negated and re.search("[1-9]", text) else text


@dataclass(frozen=True, slots=True)
class _Plain:
    """A code of digits only, for instance `#,##0.00`: most numbers have one, so it is fast."""

    quantum: Decimal
    width: int
    style: str
    percent: bool

    def render(self, value: float) -> str:
        if not math.isfinite(value):
            return str(value)
        exact = Decimal(repr(value))
        rounded = (exact * 100 if self.percent else exact).quantize(self.quantum, ROUND_HALF_UP)
        text = format(abs(rounded), self.style)
        if len(text) < self.width:
            text = text.rjust(self.width, "0")
        sign = "-" if rounded < 0 else ""
        return f"{sign}{text}{'%' if self.percent else ''}"


@lru_cache(maxsize=1000)
def _plain(code: str) -> _Plain | None:
    match = re.fullmatch(r"(?:#,##0|(?P<zeros>0+))(?:\.(?P<places>0+))?(?P<percent>%?)", code)
    if not match:
        return None
    places = len(match["places"] or "")
    width = len(match["zeros"] or "0") + (places and places + 1)
    style = "f" if match["zeros"] else ",f"
    return _Plain(Decimal(1).scaleb(-places), width, style, bool(match["percent"]))


def general(value: float) -> str:
    """Return a number without a format: up to 15 digits, as Excel keeps them."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) < _MAX_EXACT and value == int(value):
        return str(int(value))
    exponent = math.floor(math.log10(abs(value)))
    if _MIN_EXPONENT < exponent < _DIGITS:
        return f"{Decimal(f'{value:.{_DIGITS}g}'):f}"
    return f"{value:.{_DIGITS}g}".upper()


def _section(code: str, value: float) -> tuple[str, float, bool]:
    """Return the section of a code for a value, and whether it needs a minus sign."""
    sections = _split(code)
    for section in sections:
        condition = re.search(r"\[(<=|>=|<>|<|>|=)\s*(-?[\d.]+)\]", section)
        if condition and _holds(value, condition[1], float(condition[2])):
            return section, value, value < 0
    if any(re.search(r"\[[<>=]", section) for section in sections):
        return sections[-1] if len(sections) > 1 else GENERAL, value, value < 0
    positive, negative, zero = (*sections, "", "")[:3]
    if value < 0 and negative:
        return negative, value, False  # the section has its own sign, or brackets
    if value == 0 and zero:
        return zero, value, False
    return positive, value, value < 0


def _holds(value: float, operator: str, other: float) -> bool:
    return {
        "<": value < other,
        "<=": value <= other,
        ">": value > other,
        ">=": value >= other,
        "=": value == other,
        "<>": value != other,
    }[operator]


@lru_cache(maxsize=1000)
def _split(code: str) -> tuple[str, ...]:
    """Return the sections of a code, which semicolons separate outside quotes."""
    sections = re.findall(r"((?:\"[^\"]*\"?|\\.|\[[^\]]*\]|[^;])*)(?:;|$)", code or GENERAL)
    return tuple(sections[:-1] if len(sections) > 1 and not sections[-1] else sections)


@lru_cache(maxsize=1000)
def _tokens(section: str) -> tuple[tuple[str, str], ...]:
    """Return the parts of a section as pairs of kind and text."""
    tokens: list[tuple[str, str]] = []
    for match in _TOKEN.finditer(section):
        kind, text = match.lastgroup or "", match[0]
        if kind in ("quoted", "escaped", "other"):
            tokens.append(("literal", match[kind]))
        elif kind == "bracket":
            tokens += _bracket(match[kind])
        elif kind == "digits" and "@" in text:
            tokens.append(("text", text))
        elif kind:
            tokens.append((kind, text))
        elif text.startswith("_"):
            tokens.append(("literal", " "))
    return tuple(tokens)


def _bracket(text: str) -> list[tuple[str, str]]:
    if re.fullmatch(r"h+|m+|s+", text, re.IGNORECASE):
        return [("elapsed", text.lower())]
    if text.startswith("$"):  # a currency and a locale: $€-407
        return [("literal", text[1:].rpartition("-")[0] if "-" in text else text[1:])]
    return []  # a colour or condition


def _literals(tokens: tuple[tuple[str, str], ...], number: str) -> str:
    pieces = [text if kind == "literal" else number for kind, text in tokens]
    return "".join(pieces).strip() or number


def _number(value: float, tokens: tuple[tuple[str, str], ...]) -> str:
    pattern = "".join(text for kind, text in tokens if kind == "digits")
    if not re.search(r"[0#?]", pattern):
        return "".join(text for kind, text in tokens if kind == "literal").strip() or general(value)
    exact = Decimal(repr(value)) * 100 ** pattern.count("%")
    if any(kind == "exponent" for kind, _ in tokens):
        return _scientific(exact, tokens)
    if "/" in pattern:
        return _fraction(exact, tokens)
    whole, _, decimals = pattern.replace("%", "").partition(".")
    scale = len(pattern.replace("%", "")) - len(pattern.replace("%", "").rstrip(","))
    exact /= Decimal(1000) ** scale
    digits = _round(exact, len(re.findall(r"[0#?]", decimals)))
    integer, _, fraction = digits.partition(".")
    required = len(re.findall("0", decimals))
    while len(fraction) > required and fraction.endswith("0"):
        fraction = fraction[:-1]
    integer = integer.lstrip("0").rjust(whole.count("0"), "0")
    if re.search(r"[0#?],[0#?]", whole):
        integer = re.sub(r"(?<=\d)(?=(\d{3})+$)", ",", integer)
    point = "." if "." in pattern and (fraction or required) else ""
    return _place(tokens, integer, point + fraction)


def _place(tokens: tuple[tuple[str, str], ...], integer: str, fraction: str) -> str:
    """Put the digits where the placeholders are: literals may stand between them."""
    slots = "".join(text for kind, text in tokens if kind == "digits").partition(".")[0]
    remaining = len(re.findall(r"[0#?]", slots))
    pieces, digits, in_fraction = [], integer, False
    for kind, text in tokens:
        if kind == "literal":
            pieces.append(text)
        if kind != "digits":
            continue
        count = len(re.findall(r"[0#?]", text.partition(".")[0]))
        if not in_fraction and count:
            remaining -= count
            cut = _cut(digits, remaining)
            pieces.append(digits[:cut])
            digits = digits[cut:]
        if "." in text and not in_fraction:
            in_fraction = True
            pieces.append(digits + fraction)
            digits = ""
        pieces.append("%" * text.count("%"))
    return "".join(pieces).strip()


def _cut(digits: str, remaining: int) -> int:
    """Return where to cut so that `remaining` digits stay, not counting separators."""
    cut = len(digits)
    while cut and remaining:
        cut -= 1
        remaining -= digits[cut] != ","
    return cut


def _round(value: Decimal, places: int) -> str:
    return f"{value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP):f}"


def _scientific(value: Decimal, tokens: tuple[tuple[str, str], ...]) -> str:
    pattern = next(text for kind, text in tokens if kind == "digits")
    places = len(pattern.partition(".")[2])
    mantissa, _, exponent = f"{value:.{places}E}".partition("E")
    sign = "-" if exponent.startswith("-") else "+"
    return f"{mantissa}E{sign}{exponent.lstrip('+-').rjust(2, '0')}"


def _fraction(value: Decimal, tokens: tuple[tuple[str, str], ...]) -> str:
    pattern = "".join(text for kind, text in tokens if kind in ("digits", "literal"))
    numerator, _, below = pattern.partition("/")
    fixed = re.search(r"[1-9]\d*", below)
    whole = int(value) if re.search(r"[0#?]\s+[0#?]", numerator) else 0
    rest = Fraction(value) - whole
    if fixed:
        part = Fraction(round(rest * int(fixed[0])), int(fixed[0]))
        shown = f"{round(rest * int(fixed[0]))}/{fixed[0]}"
    else:
        part = rest.limit_denominator(10 ** max(1, len(re.findall(r"[0#?]", below))) - 1)
        shown = f"{part.numerator}/{part.denominator}"
    if part in (0, 1):
        return str(whole + int(part))
    return f"{whole} {shown}" if whole else shown


def _date(value: float, section: str, tokens: tuple[tuple[str, str], ...], since_1904: bool) -> str:
    if any(kind == "elapsed" for kind, _ in tokens):
        return _elapsed(value, tokens)
    if not 0 <= value < _LAST_DAY:
        return general(value)
    if _LOCALE_DATE.search(section):
        has_time = any(kind == "date" and text[0] in "hHsS" for kind, text in tokens)
        has_day = any(kind == "date" and text[0] in "yYdD" for kind, text in tokens)
        code = " ".join([ISO_DATE] * has_day + ["hh:mm:ss"] * has_time)
        return render(value, code, since_1904=since_1904)
    moment = _moment(value, since_1904)
    half = any(kind == "half" for kind, _ in tokens)
    pieces = []
    for index, (kind, text) in enumerate(tokens):
        if kind == "date":
            pieces.append(_field(moment, text.lower(), _is_minute(tokens, index), half))
        elif kind == "half":
            pieces.append("AM" if moment.hour < _NOON else "PM")
        elif kind in ("literal", "digits"):
            pieces.append(re.sub(r"\.0+", "", text))
    return "".join(pieces).strip()


def _moment(value: float, since_1904: bool) -> datetime:
    # Excel has a 29 February 1900, so days before it are one later than the calendar's.
    days = value + (1 if not since_1904 and value < _LEAP_BUG_DAY else 0)
    seconds = round(days * 86400)  # and minutes are cut off, as Excel does
    return (_EPOCH_1904 if since_1904 else _EPOCH) + timedelta(seconds=seconds)


def _is_minute(tokens: tuple[tuple[str, str], ...], index: int) -> bool:
    """Whether an `m` is a minute: the field before it is an hour, or the one after it seconds."""
    letters = [text[0].lower() if kind == "date" else "" for kind, text in tokens]
    before = next((letter for letter in reversed(letters[:index]) if letter), "")
    after = next((letter for letter in letters[index + 1 :] if letter), "")
    return before == "h" or after == "s"


def _field(moment: datetime, text: str, minute: bool, half: bool) -> str:
    number = {
        "h": (moment.hour % 12 or 12) if half else moment.hour,
        "m": moment.minute if minute else moment.month,
        "s": moment.second,
        "d": moment.day,
    }.get(text[0])
    if text[0] in "ye":
        return f"{moment.year % 100:02d}" if text in ("y", "yy") else str(moment.year)
    if text[0] == "m" and not minute and text not in ("m", "mm"):
        name = _MONTHS[moment.month - 1]
        return {"mmm": name[:3], "mmmmm": name[0]}.get(text, name)
    if text[0] in "da" and text not in ("d", "dd"):
        name = _WEEKDAYS[moment.weekday()]
        return name[:3] if text in ("ddd", "aaa") else name
    return "" if number is None else str(number).rjust(min(len(text), 2), "0")


def _elapsed(value: float, tokens: tuple[tuple[str, str], ...]) -> str:
    has_seconds = any(text[0] in "sS" for kind, text in tokens if kind in ("date", "elapsed"))
    total = round(abs(value) * 86400) if has_seconds else int(abs(value) * 1440 + 1e-6) * 60
    fields = {"h": total // 3600, "m": total // 60, "s": total}
    pieces = ["-"] if value < 0 else []
    for kind, text in tokens:
        if kind == "elapsed":
            pieces.append(str(fields[text[0]]).rjust(len(text), "0"))
        elif kind == "date" and text[0].lower() in fields:
            letter = text[0].lower()
            number = {"h": total // 3600, "m": total // 60 % 60, "s": total % 60}[letter]
            pieces.append(str(number).rjust(len(text), "0"))
        elif kind == "literal":
            pieces.append(text)
    return "".join(pieces).strip()
