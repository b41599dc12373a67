"""Counts tokens with a real tokenizer, many texts at once."""

import os

from tokenizers import Tokenizer

from rag_assets.adapters.package_files import local_path, sha256
from rag_assets.core.errors import ConfigurationError


class TokenCount:
    """A tokenizer.json that counts; `version` changes with the file."""

    def __init__(self, name: str) -> None:
        path = local_path(name)
        self.version = sha256(path)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # silences a warning on fork
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise ConfigurationError(f"{path} is not a tokenizer.json: {error}") from error
        # As shipped, MiniLM's tokenizer truncates at 128 and pads: every count would be 128.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def __call__(self, texts: list[str]) -> list[int]:
        """Return each text's number of tokens, without special tokens."""
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [len(encoding) for encoding in encoded]
