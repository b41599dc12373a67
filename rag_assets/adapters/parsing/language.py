"""The language that a text is written in.

What belongs here: py3langid, and which of its answers count. What does not: the language that a
document says it is in (`core/documents/properties.py`).
"""

import re
from dataclasses import replace
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

from rag_assets.core.documents.document import ParsedDocument

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier  # type: ignore[import-untyped]

_SAMPLE = 1000  # characters, from the beginning and from the middle each
_MIN_BYTES = 24  # of words in UTF-8, where letters that say more take more
_MIN_CONFIDENCE = 0.6
_CODE = 2  # letters of a code in ISO 639-1; of text without a language, the code is zxx
_WIDER = {"yue": "zh", "wuu": "zh", "ary": "ar", "arz": "ar", "grc": "el", "hbo": "he"}
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_loading = Lock()


def with_language(document: ParsedDocument) -> ParsedDocument:
    """Return a document with the language of its text."""
    return replace(document, language=language_of(document.markdown))


def language_of(text: str) -> str:
    """Return the code of a text's language (ISO 639-1); empty if it cannot be told."""
    pieces = [piece for piece in _sample(text).split() if "://" not in piece and "@" not in piece]
    words = " ".join(_WORD.findall(" ".join(pieces)))
    if len(words.encode()) < _MIN_BYTES:
        return ""
    with _loading:
        identifier = _identifier()
    language, confidence = identifier.classify(words)
    code = _WIDER.get(language, language)
    return str(code) if len(code) == _CODE and confidence >= _MIN_CONFIDENCE else ""


def _sample(text: str) -> str:
    """Return the beginning of a text, and of a long one a piece from its middle too."""
    middle = max(_SAMPLE, len(text) // 2)
    return f"{text[:_SAMPLE]} {text[middle : middle + _SAMPLE]}"


@cache
def _identifier() -> "LanguageIdentifier":
    """Load the model: it takes 0.4 s and 75 MB, once in a process."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
