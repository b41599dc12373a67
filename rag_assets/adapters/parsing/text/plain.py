"""Plain text: as it is, but for what a format only wraps around it.

What belongs here: text files whose markup is not Markdown's. What does not: encodings
(`formats/decoding.py`), and which names are read as what (`names.py`).
"""

import json
import re
from html import unescape
from typing import Any

from rag_assets.adapters.parsing.formats.content import Content, UnparsableError
from rag_assets.adapters.parsing.formats.decoding import decode
from rag_assets.adapters.parsing.text.pictures import without_pictures
from rag_assets.core.documents.document import Omission, Outcome, Part

_DECLARATION = re.compile(  # of XML, CSS, and (in the first two lines) Python, Emacs and Vim
    rb"\A\s*<\?xml\b[^>]*?\bencoding\s*=\s*[\"']([\w.:-]+)|\A@charset \"([\w.:-]+)\""
    rb"|\A(?:[^\n]*\n)?[^\n]*?\b(?:coding|fileencoding)[:=]\s*([\w.-]+)"
)
_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_JSON_LETTERS = {"n": "\n", "r": "\n", "t": "\t", "b": "", "f": "\n"}
_UNICODE_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_ENTITY = re.compile(r"&(?:#\d+|#x[0-9a-f]+|\w+);", re.IGNORECASE)
_CUE = re.compile(r"^(?:[^\n]*\n)?[ \t]*[\d:.,]+[ \t]*-->[^\n]*\n?", re.MULTILINE)
_CUE_BLOCK = re.compile(r"\A(?:WEBVTT|STYLE|REGION)\b")
_SPEAKER = re.compile(r"<v(?:\.[^\s>]*)?\s+([^>]+)>")
_CUE_TAG = re.compile(r"</?(?:[bciuv]|lang|ruby|rt|font)\b[^>]*>|<[\d:.]+>|\{\\an\d\}", re.I)
_ENCODED = re.compile(r"(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{500,}={0,2}")
_CODED_LINES = re.compile(r"(?:^[ \t]*[A-Za-z0-9+/]{60,76}\n){10,}[ \t]*[A-Za-z0-9+/]*=*", re.M)


def read_text(content: bytes, _media_type: str) -> Content:
    """Read a plain text file; an encoding that its first lines declare counts."""
    return _plain(decode(content, _declared(content)))


def read_xml(content: bytes, _media_type: str) -> Content:
    """Read XML with its tags, which may mean something, but characters instead of references."""
    text = decode(content, _declared(content))
    return _plain(_ENTITY.sub(lambda entity: unescape(entity[0]), text))


def read_json(content: bytes, _media_type: str) -> Content:
    """Read JSON or JSON Lines with characters instead of escape sequences."""
    return _plain(_JSON_ESCAPE.sub(_unescaped, decode(content)))


def read_properties(content: bytes, _media_type: str) -> Content:
    """Read Java's properties, which may hold any character as an escape sequence."""
    return _plain(_UNICODE_ESCAPE.sub(lambda code: chr(int(code[1], 16)), decode(content)))


def read_subtitles(content: bytes, _media_type: str) -> Content:
    """Read what is said in subtitles (SRT, WebVTT), without times, numbers and styles."""
    blocks = re.split(r"\n[ \t]*\n", decode(content))
    spoken = (_cue_text(block) for block in blocks if not _CUE_BLOCK.match(block.strip()))
    return _plain("\n".join(text for text in spoken if text))


def read_notebook(content: bytes, _media_type: str) -> Content:
    """Read a Jupyter notebook: its Markdown, its code, and what that printed."""
    try:
        notebook = json.loads(decode(content))
        cells = notebook.get("cells") or [
            cell for sheet in notebook.get("worksheets", []) for cell in sheet["cells"]
        ]
        texts = [_cell_text(cell) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"The content is not a Jupyter notebook: {error}."
        raise UnparsableError(Outcome.MISTYPED, reason) from error
    part = Part("cell", len(cells), len(cells))
    return Content("", ("\n\n".join(filter(None, texts)),), parts=(part,))


def _declared(content: bytes) -> str | None:
    found = _DECLARATION.search(content[:1024])
    label = next((group for group in found.groups() if group), b"") if found else b""
    return label.decode() or None


def _plain(text: str) -> Content:
    """Return text without long runs of encoded bytes, which are pictures and keys, not prose."""
    kept, lines = _CODED_LINES.subn("", text)
    kept, runs = _ENCODED.subn("", kept)
    if not (count := lines + runs):
        return Content("", (text,), has_headings=False)
    omission = Omission("encoded data", f"{count} runs", f"{len(text) - len(kept):,} characters")
    return Content("", (kept,), has_headings=False, omissions=(omission,))


def _unescaped(escape: re.Match[str]) -> str:
    code, letter = escape.groups()
    if code is None:
        return _JSON_LETTERS.get(letter, letter)
    return chr(int(code, 16))


def _cue_text(block: str) -> str:
    text = _CUE.sub("", block)
    text = _CUE_TAG.sub("", _SPEAKER.sub(r"\1: ", text))
    return unescape(text).strip()


def _cell_text(cell: dict[str, Any]) -> str:
    source = _joined(cell.get("source", cell.get("input", "")))
    if cell["cell_type"] == "markdown":
        return without_pictures(source)
    if cell["cell_type"] != "code":
        return source
    printed = "\n".join(filter(None, map(_output_text, cell.get("outputs", []))))
    fenced = [f"```\n{text.rstrip()}\n```" for text in (source, printed) if text.strip()]
    return "\n\n".join(fenced)


def _output_text(output: dict[str, Any]) -> str:
    data = output.get("data", output)
    return _joined(output.get("text") or data.get("text/plain") or data.get("text/markdown") or "")


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)
