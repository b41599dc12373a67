"""Encodings by the names that documents give them: the web's labels as Python's codecs.

What belongs here: which codec decodes what a label stands for in browsers. What does not: which
encoding a document has (`decoding.py`).
"""

import codecs
import re

WEB_ERRORS = "rag-assets-web"
"""The error handler of decoding: as browsers do what Python's codecs leave undefined."""

# A label of the web stands for the largest encoding of its family, and often for another one.
_CODECS = {
    "big5": "big5hkscs",
    "euc-jp": "euc_jis_2004",
    "euc-kr": "cp949",
    "gbk": "gb18030",
    "ibm866": "cp866",
    "iso-2022-jp": "iso2022_jp_ext",
    "iso-8859-8-i": "iso8859-8",
    "macintosh": "mac-roman",
    "shift_jis": "cp932",
    "windows-874": "cp874",
    "x-mac-cyrillic": "mac-cyrillic",
}
_NOT_IN_BROWSERS = ("replacement", "x-user-defined")
_NOT_TEXT = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
_JIS_ESCAPE = re.compile(rb"\x1b(\$[@B]|\$\(D|\([BJI])")
_JIS_BYTE = bytes(byte | 0x80 if 0x21 <= byte <= 0x7E else byte for byte in range(256))  # noqa: PLR2004 - the bytes of a character


def canonical_codec(label: str) -> str | None:
    """Return the Python codec for an encoding's label, as browsers understand it.

    `iso-8859-1` is windows-1252, `euc-kr` is cp949, and so on for all labels of the WHATWG's
    Encoding Standard. Labels that it does not know, or does not decode for its own safety
    (`iso-2022-kr`, `utf-7`), stand for Python's codec of that name.

    Returns:
        The codec's name; None if nobody knows the label.
    """
    import webencodings  # type: ignore[import-untyped]  # noqa: PLC0415 - few need it

    label = label.strip().lower()
    encoding: str | None = webencodings.LABELS.get(label)
    if encoding and encoding not in _NOT_IN_BROWSERS:
        return _CODECS.get(encoding, encoding)
    try:
        codec = codecs.lookup(label)
    except (LookupError, ValueError):
        return None
    is_text = getattr(codec, "_is_text_encoding", True) and codec.name not in _NOT_TEXT
    return codec.name if is_text else None


def decode_as(content: bytes, codec: str) -> str:
    """Decode with a Python codec; what it cannot decode as browsers do, or as U+FFFD."""
    if codec.startswith("iso2022_jp"):
        return _decode_jis(content)
    return content.decode(codec, WEB_ERRORS)


def is_jis(content: bytes) -> bool:
    """Whether the content has the escape sequences of ISO-2022-JP, and is 7-bit as it is."""
    return b"\x1b$" in content and content.isascii() and bool(_JIS_ESCAPE.search(content))


def _decode_jis(content: bytes) -> str:
    """Decode ISO-2022-JP as EUC-JP: Python's own codec lacks circled numbers and the like."""
    first, *pairs = _JIS_ESCAPE.split(content)
    texts = [first.decode("ascii", "replace")]
    for escape, part in zip(pairs[::2], pairs[1::2], strict=True):
        if escape in (b"(B", b"(J"):
            texts.append(part.decode("ascii", "replace"))
        else:
            euc = part.translate(_JIS_BYTE)
            if escape == b"(I":  # half-width katakana
                euc = re.sub(rb"([\xa1-\xfe])", rb"\x8e\1", euc)
            elif escape == b"$(D":  # JIS X 0212
                euc = re.sub(rb"([\xa1-\xfe]{2})", rb"\x8f\1", euc)
            texts.append(euc.decode("euc_jis_2004", "replace"))
    return "".join(texts)


def _decode_as_browsers_do(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    byte = error.object[error.start]
    if error.encoding == "charmap" and 0x80 <= byte < 0xA0:  # noqa: PLR2004 - a C1 control
        return chr(byte), error.start + 1
    if error.encoding == "gb18030" and byte == 0x80:  # noqa: PLR2004 - as in windows-936
        return "\N{EURO SIGN}", error.start + 1
    return "\N{REPLACEMENT CHARACTER}", error.end


codecs.register_error(WEB_ERRORS, _decode_as_browsers_do)
