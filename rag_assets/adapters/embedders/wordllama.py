"""The WordLlama backend: a tiny static model with its weights in the wheel; needs no torch."""

import logging
from pathlib import Path
from typing import Any

import numpy.typing as npt

from rag_assets.adapters.weights import verify_weights
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.spec import ModelSpec

_root = logging.getLogger()
_handlers, _level = _root.handlers[:], _root.level
import wordllama  # noqa: E402 - its import reconfigures the root logger, which is undone below

_root.handlers[:] = _handlers
_root.setLevel(_level)


class WordLlamaBackend:
    """WordLlama with the weights from its package; `spec.name` is the name of its configuration."""

    def __init__(self, spec: ModelSpec) -> None:
        folder = Path(wordllama.__file__).parent
        verify_weights(spec, folder / "weights" / f"{spec.name}_{spec.dimension}.safetensors")
        try:
            self._model = wordllama.WordLlama.load(
                config=spec.name, cache_dir=folder, dim=spec.dimension, disable_download=True
            )
        except (AttributeError, FileNotFoundError, ValueError) as error:
            raise ConfigurationError(
                f"Model {spec.key}: the wordllama package has no weights {spec.name!r} of dimension"
                f" {spec.dimension}: {error}"
            ) from error
        self._normalize = spec.normalize
        self._model.tokenizer.enable_truncation(spec.max_tokens)

    def encode(self, texts: list[str]) -> npt.NDArray[Any]:
        """Return float32 of shape (len(texts), dimension)."""
        return self._model.embed(texts, norm=self._normalize)  # type: ignore[no-any-return]
