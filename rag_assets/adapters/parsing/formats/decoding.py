"""Decoding: the bytes of a text file as characters.

What belongs here: which encoding a file has. What does not: what the names of encodings stand for
(`labels.py`), and what the text means.
"""

import codecs
import re
import unicodedata

from rag_assets.adapters.parsing.formats.content import UnparsableError
from rag_assets.adapters.parsing.text.labels import canonical_codec, decode_as, is_jis
from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.text import normalise

_BOMS = (  # UTF-32 first: its little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The fewer, the better the guess: with all 100 code pages short text is taken for some exotic one.
_LATIN = (
    *("cp1252", "cp1250", "iso-8859-2", "cp1254", "cp1257", "iso-8859-13", "cp1258"),
    *("cp932", "euc-jp", "gb18030", "big5hkscs", "cp949"),
)
_ALL = (
    *_LATIN,
    *("cp1251", "koi8-r", "koi8-u", "iso-8859-5", "cp866"),
    *("cp1253", "iso-8859-7", "cp1255", "cp1256", "cp874"),
)
_MULTIBYTE = ("cp932", "euc_jis_2004", "gb18030", "big5hkscs", "cp949")
_WORD = re.compile(rb"[\x80-\xff]{3}")  # in a Latin script, so many in a row are rare
_KANA = re.compile("[\u3041-\u30ff]")
_CLOSE = 0.93  # of the best guess's confidence: the most common encoding wins what is nearly a tie
_SAMPLE_BYTES = 1 << 16
_CONTROL_BYTES = bytes(set(range(1, 32)) - set(b"\t\n\v\f\r\x1b"))
_MAX_CONTROL_SHARE = 0.03  # random bytes have 0.1, text practically none
_MAX_NUL_SHARE = 0.2
_MAX_WRONG_SHARE = 0.02  # of what is not ASCII; more, and the declared encoding is another one
_FIRST_IDEOGRAPHIC = "\u0800"  # from here on UTF-8 takes three bytes


def decode(content: bytes, declared: str | None = None) -> str:
    """Decode and normalise the content of a text file.

    Args:
        content: The bytes.
        declared: The label of the encoding that the file or its envelope declares; used unless the
            bytes say otherwise: by a byte order mark, escape sequences, or because they are UTF-8.

    Raises:
        UnparsableError: The bytes are not text.
    """
    return normalise(_decode(content, canonical_codec(declared) if declared else None))


def _decode(content: bytes, declared: str | None) -> str:
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    if is_jis(content):
        return decode_as(content, "iso2022_jp_ext")
    if declared in ("hz", "iso2022_kr", "utf-7") and content.isascii():
        return decode_as(content, declared)
    sample = content[:_SAMPLE_BYTES]
    if wide := _wide_encoding(sample):
        return content.decode(wide, "replace")
    if _is_binary(sample):
        raise UnparsableError(Outcome.MISTYPED, "The content is binary, not text.")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return _decode_foreign(content, declared)
    # Two bytes of a Chinese or Korean encoding may look like UTF-8, but hardly three.
    by_chance = declared in _MULTIBYTE and not text.isascii() and max(text) < _FIRST_IDEOGRAPHIC
    return decode_as(content, declared) if declared and by_chance else text


def _wide_encoding(sample: bytes) -> str | None:
    """Detect UTF-16 without a byte order mark, by where its NULs are."""
    low_zeros, high_zeros = sample[::2].count(0), sample[1::2].count(0)
    pairs = len(sample) // 2
    for encoding, zeros, others in (
        ("utf-16-le", high_zeros, low_zeros),
        ("utf-16-be", low_zeros, high_zeros),
    ):
        latin = zeros > 0.4 * pairs and others < 0.05 * pairs
        spaces = zeros and not others and not _is_utf8(sample)  # and line ends, of another script
        if (latin or spaces) and _is_written_text(sample, encoding):
            return encoding
    return None


def _is_utf8(sample: bytes) -> bool:
    rest = sample.replace(b"\0", b"")
    return not _is_binary(rest) and "\N{REPLACEMENT CHARACTER}" not in rest.decode(errors="replace")


def _is_written_text(sample: bytes, encoding: str) -> bool:
    text = sample.decode(encoding, "replace")
    kinds = [unicodedata.category(character) for character in text if not character.isspace()]
    return bool(kinds) and sum(kind[0] in "LMNPS" for kind in kinds) >= 0.95 * len(kinds)


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
    if declared:
        text = decode_as(content, declared)
        wrong = text.count("\N{REPLACEMENT CHARACTER}")
        if wrong <= _MAX_WRONG_SHARE * (len(text.encode()) - len(text)):
            return text
    return decode_as(content, _guess(content))


def _guess(content: bytes) -> str:
    """Return the codec that the bytes look most like (docs/adr/0010-reading-text.md)."""
    import chardet  # noqa: PLC0415 - only files that are not UTF-8 need it

    # Only lines that are not ASCII are informative, wherever they are in a long file.
    foreign_lines = b"\n".join(line for line in content.splitlines() if not line.isascii())
    sample = foreign_lines[:_SAMPLE_BYTES]
    candidates = _ALL if _WORD.search(sample) else _LATIN
    guesses = chardet.detect_all(sample, ignore_threshold=True, include_encodings=candidates)
    best = guesses[0]["confidence"]
    close = {str(g["encoding"]) for g in guesses if g["confidence"] >= _CLOSE * best}
    found = "cp1252" if "Windows-1252" in close else guesses[0]["encoding"] or "cp1252"
    if found == "IBM866" and _is_japanese(sample):  # of DOS, in which all bytes are valid
        found = "euc-jp"
    return canonical_codec(found) or found


def _is_japanese(sample: bytes) -> bool:
    try:
        return bool(_KANA.search(sample.decode("euc_jis_2004")))
    except UnicodeDecodeError:
        return False
