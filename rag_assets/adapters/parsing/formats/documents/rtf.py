"""RTF: rich text as Word, WordPad and many other programs write it.

What belongs here: groups and control words of RTF. What does not: Word's other formats.

Deleted text is left out, and so is hidden text, which is counted. Notes and comments go to the end,
headers to the beginning.
"""

import codecs
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError
from rag_assets.adapters.parsing.formats.extraction import own_title, refuse_type
from rag_assets.adapters.parsing.formats.office import blocks
from rag_assets.adapters.parsing.formats.office.account import Account
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.properties import properties_of

_TOKEN = re.compile(
    rb"\\(?P<word>[a-zA-Z]{1,32})(?P<value>-?\d{1,10})? ?|\\'(?P<hex>[0-9a-fA-F]{2})"
    rb"|\\(?P<symbol>[^a-zA-Z])|(?P<group>[{}])|(?P<text>[^\\{}\r\n]+)|[\r\n]+",
    re.DOTALL,
)
_CODE_PAGES = {
    **{77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gbk", 136: "cp950"},
    **{161: "cp1253", 162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256"},
    **{186: "cp1257", 204: "cp1251", 222: "cp874", 238: "cp1250"},
}
_CHARACTERS = {
    **{"tab": " ", "line": "\n", "emdash": "—", "endash": "\u2013", "lquote": "\u2018"},
    **{"rquote": "\u2019"},
    **{"ldblquote": "“", "rdblquote": "”", "bullet": "•", "emspace": " ", "enspace": " "},
    **{"qmspace": " ", "lbr": "\n", "softline": "\n"},
    **{"~": "\N{NO-BREAK SPACE}", "_": "-", "{": "{", "}": "}", "\\": "\\"},
}
_MARGINS = {
    **dict.fromkeys(("header", "headerl", "headerr", "headerf"), "header"),
    **dict.fromkeys(("footer", "footerl", "footerr", "footerf"), "footer"),
}
_SIDE_TEXTS = {**_MARGINS, "footnote": "footnote", "annotation": "comment", "shptxt": "box"}
_SKIPPED = {
    *("colortbl", "pict", "objdata", "fldinst", "nonshppict", "sp", "revtbl", "themedata"),
    *("atnid", "atnauthor", "atntime", "atndate", "atnicn", "ftnsep", "ftnsepc", "aftnsep"),
    *("filetbl", "template", "xe", "tc", "datafield", "formfield", "private", "mmathPr", "upr"),
}
_KEPT = {"shpinst", "shptxt", "annotation", "moMath", "mr", "shppict"}  # although marked optional
_LABELS = ("listtext", "pntext")
_INFO = {
    **{"title": "title", "author": "author", "subject": "subject", "keywords": "keywords"},
    **{"company": "company", "manager": "manager", "category": "category"},
    **{"doccomm": "description", "operator": "lastmodifiedby"},
    **{"creatim": "created", "revtim": "modified"},
}
_TIME_PARTS = {"yr": "", "mo": "-", "dy": "-", "hr": "T", "min": ":", "sec": ":"}
_MAX_DEPTH = 2000
_HEADING_NAME = re.compile(r"heading (\d)", re.IGNORECASE)


@dataclass(slots=True)
class _State:
    """What a group inherits from the one around it."""

    place: str = "text"  # where text goes: text, skipped, fonts, styles, info, label, or a side
    info: str = ""  # the property that text in `info` is of
    hidden: bool = False
    deleted: bool = False
    encoding: str = "cp1252"
    skip_after_unicode: int = 1
    style: int = 0


@dataclass(slots=True)
class _Flow:
    """A text of its own: the body, a note, a header or a box."""

    blocks: list[str] = field(default_factory=list)
    line: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    cells: list[str] = field(default_factory=list)
    label: str = ""
    level: int = 0
    in_table: bool = False

    def end_paragraph(self) -> None:
        text = _whole("".join(self.line))
        if self.in_table:
            self.line.append("\n")
            return
        self.line.clear()
        self._end_table()
        if self.level:
            self.blocks.append(blocks.heading(self.level, f"{self.label} {text}"))
        elif self.label and text.strip():
            label = self.label if re.search(r"\w", self.label) else ""
            self.blocks.append(blocks.item(0, label, text))
        else:
            self.blocks.append(blocks.paragraph(text))
        self.label = ""

    def end_cell(self) -> None:
        self.cells.append("".join(self.line))
        self.line.clear()
        self.label = ""

    def end_row(self) -> None:
        self.rows.append(self.cells)
        self.cells = []

    def _end_table(self) -> None:
        self.blocks.append(blocks.table(self.rows))
        self.rows = []

    def markdown(self) -> str:
        self.in_table = False
        if self.cells:
            self.end_row()
        self.end_paragraph()
        return blocks.join(self.blocks)


def _whole(text: str) -> str:
    """Join the halves of characters beyond 16 bits, which are written as two."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def verify_rtf(content: bytes) -> None:
    """Refuse content that is not RTF."""
    if not content.lstrip()[:5].lower().startswith(b"{\\rtf"):
        refuse_type(content, "an RTF document")


def read_rtf(content: bytes, _media_type: str) -> Content:
    """Return an RTF document: headers, body, footers, notes and comments."""
    reader = _Reader()
    reader.read(content)
    texts = [*reader.sides["header"], reader.body.markdown(), *reader.sides["footer"]]
    notes = [f"[^{number}]: {text}" for number, text in enumerate(reader.sides["footnote"], 1)]
    comments = [f"Comment: {text}" for text in reader.sides["comment"]]
    account = reader.account
    info = {name: _whole(text) for name, text in reader.info.items()}
    for kind, found in reader.sides.items():
        if found and kind != "box":
            account.read(kind, len(found))
    return Content(
        own_title(info["title"]),
        (blocks.join([*texts, *notes, *comments]),),
        parts=account.parts,
        omissions=account.omissions,
        properties=properties_of(info.items()),
    )


class _Reader:
    """Reads the tokens of a document one after another."""

    def __init__(self) -> None:
        self.account = Account()
        self.body = _Flow()
        self.sides: dict[str, list[str]] = {
            kind: [] for kind in ("header", "footer", "footnote", "comment", "box")
        }
        self.info = {"title": ""}
        self._state = _State()
        self._groups: list[tuple[_State, _Flow]] = []
        self._flow = self.body
        self._bytes = bytearray()
        self._optional = False  # after \*: a reader may ignore this group
        self._to_skip = 0  # characters that stand for a Unicode one in old readers
        self._default = "cp1252"
        self._fonts: dict[int, str] = {}
        self._font = 0
        self._styles: dict[int, int] = {}  # levels as headings
        self._style_name = ""
        self._label = ""

    def read(self, content: bytes) -> None:
        position = 0
        while match := _TOKEN.match(content, position):
            position = match.end()
            if match["word"]:
                position += self._word(match["word"].decode(), match["value"])
            elif match["group"]:
                self._group(match["group"])
            elif match["symbol"]:
                self._symbol(match["symbol"].decode("latin-1"))
            elif match["hex"]:
                self._add_bytes(bytes.fromhex(match["hex"].decode()))
            elif match["text"]:
                self._add_bytes(match["text"])
        self._flush()
        if self._groups:
            raise UnparsableError(Outcome.TRUNCATED, "The RTF is incomplete: its end is missing.")

    def _group(self, brace: bytes) -> None:
        self._flush()
        self._to_skip = 0
        if brace == b"{":
            if len(self._groups) > _MAX_DEPTH:
                reason = f"The RTF nests more than {_MAX_DEPTH:,} groups."
                raise UnparsableError(Outcome.FAILED, reason)
            self._groups.append((self._state, self._flow))
            self._state = replace(self._state)
        elif self._groups:
            ended, flow = self._state, self._flow
            self._state, self._flow = self._groups.pop()
            if flow is not self._flow:
                self._end_side(ended.place, flow)
            elif ended.place == "label" and self._state.place != "label":
                self._flow.label, self._label = self._label.strip(), ""
        self._optional = False

    def _end_side(self, kind: str, flow: _Flow) -> None:
        text = flow.markdown()
        if kind == "box":
            self._flow.blocks.append(text)
        elif kind in ("header", "footer"):
            if re.search(r"\w\w", text) and text not in self.sides[kind]:
                self.sides[kind].append(text)
        elif text:
            self.sides[kind].append(" ".join(text.split()))

    def _word(self, word: str, value: bytes | None) -> int:
        """Obey a control word; return the number of bytes of binary data after it."""
        if word == "bin":
            return int(value or 0)
        number = None if value is None else int(value)
        if word == "u":
            self._unicode(number or 0)
            return 0
        self._flush()
        self._to_skip = 0
        optional, self._optional = self._optional, False
        if self._state.place == "skipped":
            return 0
        if self._destination(word, optional=optional):
            return 0
        if word in _TIME_PARTS and self._state.info:
            self._add(f"{_TIME_PARTS[word]}{number or 0:02}")
        elif word in _CHARACTERS:
            self._add(_CHARACTERS[word])
        elif action := _ACTIONS.get(word):
            action(self, number)
        return 0

    def _destination(self, word: str, *, optional: bool) -> bool:
        """Whether a word says where the text of its group goes."""
        state = self._state
        places = {"fonttbl": "fonts", "stylesheet": "styles", "info": "info"}
        if word in _SIDE_TEXTS:
            kind = _SIDE_TEXTS[word]
            if kind == "footnote":
                self._add(f"[^{len(self.sides['footnote']) + 1}]")
            state.place, state.hidden, state.deleted = kind, False, False
            self._flow = _Flow()
        elif word in places:
            state.place = places[word]
        elif word in _INFO and state.place == "info":
            state.info = _INFO[word]
        elif word in _LABELS:
            state.place = "label"
        elif word in _SKIPPED or (optional and word not in _KEPT):
            state.place = "skipped"
        else:
            return False
        return True

    def _symbol(self, symbol: str) -> None:
        if symbol == "*":
            self._optional = True
        elif symbol in "\r\n":
            self._flush()
            self._paragraph(None)
        elif symbol in _CHARACTERS:
            self._flush()
            self._add(_CHARACTERS[symbol])

    def _unicode(self, number: int) -> None:
        self._flush()
        self._add(chr(number & 0xFFFF))
        self._to_skip = self._state.skip_after_unicode

    def _add_bytes(self, content: bytes) -> None:
        skipped = min(self._to_skip, len(content))
        self._to_skip -= skipped
        self._bytes += content[skipped:]

    def _flush(self) -> None:
        if self._bytes:
            text = self._bytes.decode(self._state.encoding, "replace")
            self._bytes.clear()
            self._add(text)

    def _add(self, text: str) -> None:
        state = self._state
        if state.place == "info" and state.info:
            self.info[state.info] = self.info.get(state.info, "") + text
        elif state.place == "label":
            self._label += text
        elif state.place == "styles":
            self._name_style(text)
        elif state.place in ("text", *self.sides) and not state.deleted:
            if state.hidden:
                if text.strip():
                    name = f"of {len(text)} characters"
                    self.account.omit("hidden text", name, "formatted as hidden")
            else:
                self._flow.line.append(text)

    def _name_style(self, text: str) -> None:
        name = _HEADING_NAME.match(text)
        if name:
            self._styles.setdefault(self._state.style, int(name[1]))

    def _use_font(self, number: int | None) -> None:
        self._font = number or 0
        if self._state.place != "fonts":
            self._state.encoding = self._fonts.get(self._font, self._default)

    def _set_font_charset(self, number: int | None) -> None:
        if self._state.place == "fonts":
            self._fonts[self._font] = _CODE_PAGES.get(number or 0, self._default)

    def _set_code_page(self, number: int | None) -> None:
        try:
            self._default = codecs.lookup(f"cp{number}").name
        except LookupError:
            return
        self._state.encoding = self._default

    def _paragraph(self, _: int | None) -> None:
        self._flow.end_paragraph()

    def _reset_paragraph(self, _: int | None) -> None:
        self._flow.in_table, self._flow.level = False, 0

    def _use_style(self, number: int | None) -> None:
        self._state.style = number or 0
        self._flow.level = self._styles.get(number or 0, 0)

    def _set_level(self, number: int | None) -> None:
        level = (number or 0) + 1 if (number or 0) < 9 else 0  # noqa: PLR2004 - 9 is body text
        if self._state.place == "styles":
            self._styles[self._state.style] = level
        else:
            self._flow.level = level

    def _reset_characters(self, _: int | None) -> None:
        self._state.hidden = self._state.deleted = False

    def _in_table(self, number: int | None) -> None:
        self._flow.in_table = number != 0

    def _end_cell(self, _: int | None) -> None:
        self._flow.end_cell()

    def _end_row(self, _: int | None) -> None:
        self._flow.end_row()

    def _hide(self, number: int | None) -> None:
        self._state.hidden = number != 0

    def _delete(self, number: int | None) -> None:
        self._state.deleted = number != 0

    def _set_skip(self, number: int | None) -> None:
        self._state.skip_after_unicode = max(0, min(number or 0, 100))

    def _use_mac(self, _: int | None) -> None:
        self._default = self._state.encoding = "mac_roman"


_ACTIONS: dict[str, Callable[[_Reader, int | None], None]] = {
    **dict.fromkeys(("par", "sect", "page"), _Reader._paragraph),
    **dict.fromkeys(("cell", "nestcell"), _Reader._end_cell),
    **{"row": _Reader._end_row, "intbl": _Reader._in_table, "pard": _Reader._reset_paragraph},
    **{"s": _Reader._use_style, "outlinelevel": _Reader._set_level},
    **{"plain": _Reader._reset_characters, "v": _Reader._hide, "deleted": _Reader._delete},
    **{"f": _Reader._use_font, "fcharset": _Reader._set_font_charset, "uc": _Reader._set_skip},
    **{"ansicpg": _Reader._set_code_page, "mac": _Reader._use_mac},
}
