"""Counts tokens with a real tokenizer, many texts at once."""

import json
import os
import re
from functools import cached_property

from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.normalizers import BertNormalizer, Sequence
from tokenizers.pre_tokenizers import BertPreTokenizer

from rag_assets.adapters.package_files import local_path, sha256
from rag_assets.core.errors import ConfigurationError

KNOWN_WORDS = 200_000
_WORD = re.compile(" *[^ ]+")
_SPACE = "\u2581"  # how SentencePiece's tokenizers write a space
_ACROSS_WORDS = re.compile(rf"[^{_SPACE}\n]{_SPACE}")
_SPACES_AS_LETTERS = [
    {"type": "Prepend", "prepend": _SPACE},
    {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE},
]


class TokenCount:
    """A tokenizer.json that counts; `version` changes with the file, which is read when needed.

    Where no token reaches over the beginning of a word, a text has as many tokens as its words
    have, and of a word that came before the count is known. That is ten times faster than to
    tokenize all texts, and gives the same counts.
    """

    def __init__(self, name: str) -> None:
        self._path = local_path(name)
        self.version = sha256(self._path)
        self._known: dict[str, int] = {}

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # silences a warning on fork
        try:
            tokenizer = Tokenizer.from_file(str(self._path))
        except Exception as error:  # the library raises bare Exception
            raise ConfigurationError(f"{self._path} is not a tokenizer.json: {error}") from error
        # As shipped, MiniLM's tokenizer truncates at 128 and pads: every count would be 128.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    @cached_property
    def _by_word(self) -> bool:
        return _words_are_apart(self._tokenizer)

    @cached_property
    def _added(self) -> re.Pattern[str]:
        """What is found before there are words."""
        tokens = self._tokenizer.get_added_tokens_decoder().values()
        return re.compile("|".join([_SPACE, *(re.escape(token.content) for token in tokens)]))

    def __call__(self, texts: list[str]) -> list[int]:
        """Return each text's number of tokens, without special tokens."""
        if not self._by_word:
            return self.tokenized(texts)
        words = [self._words(text) for text in texts]
        new = {word for found in words for word in found if word not in self._known}
        if len(self._known) + len(new) > KNOWN_WORDS:
            self._known.clear()
            new = {word for found in words for word in found}
        self._known.update(zip(new, self.tokenized(list(new)), strict=True))
        return [sum(map(self._known.__getitem__, found)) for found in words]

    def tokenized(self, texts: list[str]) -> list[int]:
        """As calling it, by tokenizing every text whole."""
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [len(encoding) for encoding in encoded]

    def _words(self, text: str) -> list[str]:
        """Cut before each first space, which is then left out: every word begins with one."""
        if text.endswith(" ") or self._added.search(text):
            return [text]  # such tokens are found before there are words
        if "  " not in text and not text.startswith(" "):
            return text.split(" ")
        first, *others = _WORD.findall(text)
        return [first, *(word[1:] for word in others)]


def _words_are_apart(tokenizer: Tokenizer) -> bool:
    """Whether no token can reach over the beginning of a word.

    True of BERT's, which cuts at white space first, and of byte-pair encodings that write a space
    as a letter, in front of each word, if no token of the vocabulary has one after another letter:
    then no pair across that place is ever merged.
    """
    normalizer, cut_first, model = tokenizer.normalizer, tokenizer.pre_tokenizer, tokenizer.model
    if isinstance(cut_first, BertPreTokenizer):
        return isinstance(normalizer, BertNormalizer)
    return (
        cut_first is None
        and isinstance(model, BPE)
        and not model.dropout
        and isinstance(normalizer, Sequence)
        and json.loads(normalizer.__getstate__())["normalizers"] == _SPACES_AS_LETTERS
        and not _ACROSS_WORDS.search("\n".join(tokenizer.get_vocab(with_added_tokens=False)))
    )
