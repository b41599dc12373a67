"""The tiny static model: token vectors averaged, weights inside its wheel, no torch."""

import logging
from pathlib import Path
from typing import Any

import numpy.typing as npt

from rag_assets.adapters.embedders.weights import verify_weights
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.spec import ModelSpec

_root = logging.getLogger()
_handlers, _level = _root.handlers[:], _root.level
import wordllama  # noqa: E402 - it sets up the root logger on import, which is not its to do

_root.handlers[:] = _handlers
_root.setLevel(_level)


class WordLlamaBackend:
    """WordLlama with the weights that its package ships; `spec.name` is its configuration."""

    def __init__(self, spec: ModelSpec) -> None:
        folder = Path(wordllama.__file__).parent
        verify_weights(spec, folder / "weights" / f"{spec.name}_{spec.dimension}.safetensors")
        try:
            self._model = wordllama.WordLlama.load(
                config=spec.name, cache_dir=folder, dim=spec.dimension, disable_download=True
            )
        except (AttributeError, FileNotFoundError, ValueError) as error:
            raise ConfigurationError(
                f"Model {spec.key}: wordllama has no weights {spec.name!r} of dimension"
                f" {spec.dimension} in its package: {error}"
            ) from error
        self._normalize = spec.normalize
        self._model.tokenizer.enable_truncation(spec.max_tokens)

    def encode(self, texts: list[str]) -> npt.NDArray[Any]:
        """Return float32, shape (len(texts), dimension)."""
        return self._model.embed(texts, norm=self._normalize)  # type: ignore[no-any-return]
