"""Lines of right-to-left text, from the places of their characters.

What belongs here: Arabic and Hebrew, which PDFs hold in the order of the eye, from the left, or in
no order at all. What does not: text that is written from the left, whose order libraries get right.
"""

import re
import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_LETTER = r"\u0590-\u05ff\u0600-\u065f\u066e-\u06ef\u06fa-\u08ff\ufb1d-\ufdff\ufe70-\ufefc"
_RIGHT_TO_LEFT = re.compile(f"[{_LETTER}]")
_PRESENTATION_FORM = re.compile(r"[\ufb1d-\ufd3d\ufd50-\ufdff\ufe70-\ufefc]+")
_DIGIT = r"0-9\u0660-\u0669\u06f0-\u06f9"
# What is written from the left in a line from the right: words with all between them, numbers.
_LEFT_TO_RIGHT = re.compile(
    rf"[^\W\d_{_LETTER}](?:[^{_LETTER}]*[^\W_{_LETTER}])?[%\u00b0]?"
    rf"|[+-]?[{_DIGIT}]+(?:[.,:/\u066b\u066c-][{_DIGIT}]+)*%?"
)
_IN_LEFT_TO_RIGHT = re.compile(rf"[{_LETTER}](?:[^A-Za-z{_DIGIT}]*[{_LETTER}])?")
_MARK = r"\u0300-\u036f\u0591-\u05bd\u05bf-\u05c7\u064b-\u065f"
_CLUSTER = re.compile(rf".[{_MARK}]*", re.DOTALL)
_MIRRORED = str.maketrans("()[]{}", ")(][}{")
_BRACKETED_WORD = re.compile(rf"(?<=\w)([(\[])(?=[{_LETTER}])")  # a gap is not always seen
_LAM = "\u0644"
_WORD_GAP = 0.3  # of a line's height
_LIKELY_GAP = 0.1  # where the PDF has a space, or the direction changes
_SAME_LINE = 0.5  # of a character's height
_MIN_SHARE = 0.1  # of a page's letters


@dataclass(frozen=True, slots=True)
class Character:
    """A character and its box, in points from the lower left corner of the page."""

    text: str
    left: float
    bottom: float
    right: float
    top: float


def is_right_to_left(text: str) -> bool:
    """Whether a page has enough letters of right-to-left scripts that their order matters."""
    letters = len(_RIGHT_TO_LEFT.findall(text))
    return letters > _MIN_SHARE * sum(map(str.isalpha, text))


def read_lines(characters: Sequence[Character]) -> str:
    """Return the text of a page in the order in which it is read."""
    lines = _lines([c for c in characters if c.text.isprintable()])
    return "\n".join(filter(None, map(_logical_line, lines)))


def _lines(characters: Sequence[Character]) -> list[list[Character]]:
    """Group characters by line, from the top."""
    lines: list[list[Character]] = []
    for character in sorted(characters, key=lambda c: -(c.top + c.bottom)):
        middle = (character.top + character.bottom) / 2
        if lines:
            first = lines[-1][0]
            distance = (first.top + first.bottom) / 2 - middle
            if distance < _SAME_LINE * max(first.top - first.bottom, 1.0):
                lines[-1].append(character)
                continue
        lines.append([character])
    return lines


def _logical_line(line: Sequence[Character]) -> str:
    # A ligature of two letters has one box for both.
    places = sorted(line, key=lambda c: (c.left + c.right, c.left, c.text == _LAM))
    visual = _visual_line(places)
    if not _RIGHT_TO_LEFT.search(visual):
        return visual
    return to_logical(visual)


def _visual_line(line: Sequence[Character]) -> str:
    height = statistics.median(c.top - c.bottom for c in line)
    spaces = [c.left for c in line if c.text.isspace()]
    letters = [c for c in line if not c.text.isspace()]
    pieces = [letters[0].text] if letters else []
    for before, after in pairwise(letters):
        gap = (after.left - before.right) / max(height, 1.0)
        likely = _is_boundary(before, after) or any(
            before.right - 1 <= space <= after.left + 1 for space in spaces
        )
        if gap > (_LIKELY_GAP if likely else _WORD_GAP):
            pieces.append(" ")
        pieces.append(after.text)
    return "".join(pieces)


def _is_boundary(before: Character, after: Character) -> bool:
    """Whether the direction changes from one letter or digit to the next."""
    if not (before.text.isalnum() and after.text.isalnum()):
        return False
    return bool(_RIGHT_TO_LEFT.match(before.text)) != bool(_RIGHT_TO_LEFT.match(after.text))


def to_logical(visual: str) -> str:
    """Return a line as it is read, from the line as it is seen from the left to the right."""
    if 2 * len(_RIGHT_TO_LEFT.findall(visual)) < sum(map(str.isalpha, visual)):
        return _right_to_left_words(visual)
    runs: list[str] = []
    end = 0
    for run in _LEFT_TO_RIGHT.finditer(visual):
        runs += [_reversed(visual[end : run.start()]), run[0]]
        end = run.end()
    runs.append(_reversed(visual[end:]))
    return _mend("".join(reversed(runs)))


def _right_to_left_words(visual: str) -> str:
    """Turn the right-to-left parts of a line that is written from the left."""
    return _mend(_IN_LEFT_TO_RIGHT.sub(lambda match: _reversed(match[0]), visual))


def _reversed(text: str) -> str:
    """Reverse characters, each with the marks that belong to it."""
    return "".join(reversed(_CLUSTER.findall(text)))


def _mend(line: str) -> str:
    """Spell letters as they are typed, and turn brackets that stand the wrong way round."""
    line = _PRESENTATION_FORM.sub(lambda forms: unicodedata.normalize("NFKC", forms[0]), line)
    first = re.search(r"[()\[\]{}]", line)
    if first and first[0] in ")]}":
        line = line.translate(_MIRRORED)
    return _BRACKETED_WORD.sub(r" \1", line)
