"""The language of a text is told if there is enough of it, and not guessed otherwise."""

import json
from pathlib import Path

import pytest

from rag_assets.adapters.parsing.language import language_of, with_language
from rag_assets.core.documents.document import Outcome, ParsedDocument

FILE = Path(__file__).parents[2] / "support" / "languages.json"
SENTENCES = {
    entry["language"]: entry["sentence"] for entry in json.loads(FILE.read_text("utf-8"))
} | {
    "es": "Los ingresos trimestrales crecieron gracias a la fuerte demanda.",
    "it": "Verbale della riunione di lunedì",
    "pt": "Ata da reunião de segunda-feira",
    "nl": "Notulen van de vergadering van maandag",
    "sv": "Omsättningen ökade tack vare den starka efterfrågan.",
    "cs": "Čtvrtletní tržby vzrostly díky silné poptávce.",
    "tr": "Bütün öğrenciler bugün okula geldiler ve yeni öğretmenlerini gördüler.",
    "uk": "Квартальна виручка зросла завдяки високому попиту.",
    "ar": "ارتفعت الإيرادات الفصلية بفضل الطلب القوي.",
    "vi": "Doanh thu hàng quý tăng nhờ nhu cầu mạnh mẽ.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_one_sentence_is_enough(language: str) -> None:
    assert language_of(SENTENCES[language]) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ok",
        "ACME GmbH",
        "SKU-1234-AB 99 | 12345 678 90.12 | 44",
        "ada@example.org https://example.org/the/quick/brown/fox/jumps",
        "a1b2c3d4e5f6 deadbeef 0xfe12 77aa88bb qzxv wvxk jqzp fghj",
        "for (i = 0; i < n; i++) { foo_bar = baz(qux, 12); if (x != y) { z[i] += 1; } }",
    ],
)
def test_a_text_that_is_too_short_or_in_no_language_has_none(text: str) -> None:
    assert language_of(text) == ""


def test_code_links_and_numbers_do_not_hide_the_language() -> None:
    listing = "```python\nimport os\nfor name in os.listdir('.'):\n    print(name)\n```"
    prose = "Dieses Programm gibt die Namen aller Dateien im Verzeichnis aus, eine je Zeile."
    address = "https://example.org/this/is/an/english/address/of/the/manual"

    assert language_of(f"# Anleitung\n\n{listing}\n\n{address}\n\n{prose}\n\n| 1 | 2 |") == "de"


def test_of_a_text_in_two_languages_the_one_with_more_of_it_counts() -> None:
    english = (
        "Ships pay by length. The pilot comes aboard before the first buoy. Nobody lands after"
    )
    german = "Schiffe zahlen nach Länge. Der Lotse kommt vor der ersten Boje an Bord. Niemand legt"

    assert language_of(f"{english} dark. {SENTENCES['en']}. {SENTENCES['de']}.") == "en"
    assert language_of(f"{SENTENCES['en']}. {german} nachts an. {SENTENCES['de']}.") == "de"


def test_a_long_text_is_told_by_its_beginning_and_its_middle() -> None:
    licence = f"{SENTENCES['en']}. " * 10
    chapters = f"{SENTENCES['de']}. " * 10_000

    assert language_of(licence + chapters) == "de"
    assert language_of("0123 " * 1_000 + chapters) == "de"


def test_the_same_text_has_the_same_language_whatever_was_asked_before() -> None:
    before = [language_of(sentence) for sentence in SENTENCES.values()]

    after = [language_of(sentence) for sentence in reversed(SENTENCES.values())]

    assert after[::-1] == before


def test_a_document_gets_the_language_of_its_text_not_the_one_it_declares() -> None:
    declared = ParsedDocument(
        Outcome.PARSED, markdown=SENTENCES["de"], properties={"language": "en"}
    )

    document = with_language(declared)

    assert (document.language, document.properties) == ("de", {"language": "en"})
