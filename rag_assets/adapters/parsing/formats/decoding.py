"""Decoding: the bytes of a text file as characters.

What belongs here: encodings, byte order marks, newlines. What does not: what the text means.
"""

import codecs
import re

from rag_assets.adapters.parsing.formats.content import UnparsableError
from rag_assets.core.display import is_text
from rag_assets.core.documents.document import Outcome

_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# With all 100 code pages to choose from, short Western text is taken for some exotic one.
_GUESSED_ENCODINGS = [
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256"),
    *("cp932", "euc_jp", "gb18030", "big5", "euc_kr"),
]
_SAMPLE_BYTES = 1 << 16
_CONTROL_BYTES = bytes(set(range(1, 32)) - set(b"\t\n\v\f\r\x1b"))
_MAX_CONTROL_SHARE = 0.03  # random bytes have 0.1, text practically none
_MAX_NUL_SHARE = 0.2
_UNWANTED = re.compile("[\0\ud800-\udfff]")


def decode(content: bytes, declared: str | None = None) -> str:
    """Decode and normalise the content of a text file.

    Args:
        content: The bytes.
        declared: The encoding that the file declares; used if the bytes are not UTF-8 and fit it.

    Raises:
        UnparsableError: The bytes are not text.
    """
    return normalise(_decode(content, declared))


def normalise(text: str) -> str:
    """Return the text with line feeds as newlines, and without NULs and lone surrogates."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return lines if "\0" not in lines and is_text(lines) else _UNWANTED.sub("", lines)


def _decode(content: bytes, declared: str | None) -> str:
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    if wide := _wide_encoding(content[:_SAMPLE_BYTES]):
        return content.decode(wide, "replace")
    if _is_binary(content[:_SAMPLE_BYTES]):
        raise UnparsableError(Outcome.MISTYPED, "The content is binary, not text.")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return _decode_foreign(content, declared)


def _wide_encoding(sample: bytes) -> str | None:
    """Detect UTF-16 without a byte order mark: every other byte of mostly Latin text is NUL."""
    pairs = len(sample) // 2
    low_zeros, high_zeros = sample[::2].count(0), sample[1::2].count(0)
    if pairs and high_zeros > 0.4 * pairs and low_zeros < 0.05 * pairs:
        return "utf-16-le"
    if pairs and low_zeros > 0.4 * pairs and high_zeros < 0.05 * pairs:
        return "utf-16-be"
    return None


def _is_binary(sample: bytes) -> bool:
    control = len(sample) - len(sample.translate(None, _CONTROL_BYTES))
    return (
        control > _MAX_CONTROL_SHARE * len(sample)
        or sample.count(0) > _MAX_NUL_SHARE * len(sample)
        or sample.startswith(b"%PDF-")  # starts like text, but is not
    )


def _decode_foreign(content: bytes, declared: str | None) -> str:
    """Decode what is not valid UTF-8: as damaged UTF-8, as declared, or by a guess."""
    damaged = content.decode(errors="replace")
    bad = damaged.count("\N{REPLACEMENT CHARACTER}")
    if bad < len(damaged.encode()) - len(damaged) - 2 * bad:  # fewer than good non-ASCII bytes
        return damaged
    encoding = declared if declared and _fits(declared, content) else _guess(content)
    return content.decode(encoding, "replace")


def _fits(encoding: str, content: bytes) -> bool:
    try:
        return isinstance(content.decode(encoding), str)
    except (LookupError, UnicodeError):
        return False


def _guess(content: bytes) -> str:
    import charset_normalizer  # noqa: PLC0415 - only files that are not UTF-8 need it

    # Only lines that are not ASCII are informative, wherever they are in a long file.
    foreign_lines = b"\n".join(line for line in content.splitlines() if not line.isascii())
    sample = foreign_lines[:_SAMPLE_BYTES]
    matches = charset_normalizer.from_bytes(sample, cp_isolation=_GUESSED_ENCODINGS)
    best = matches.best()
    if best is None:
        raise UnparsableError(
            Outcome.MISTYPED,
            "The content is not text in any known encoding.",
        )
    rank = (best.chaos, best.coherence)
    equal = (match for match in matches if (match.chaos, match.coherence) == rank)
    names = {name for match in equal for name in match.could_be_from_charset}
    return "cp1252" if "cp1252" in names else best.encoding  # the most common one wins a tie
