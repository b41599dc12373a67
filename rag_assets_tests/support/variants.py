"""Other models derived from the small real one: what upgrades are tried with.

`rotated` has the same dimension and finds much the same, in a space of its own: mixing it up with
the original raises no error and ruins every result. `short` has another dimension. `blind` is a
model that understands nothing.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.adapters.embedders.embedder import Embedder, load_embedder
from rag_assets.core.identity import digest
from rag_assets.core.models.spec import ModelSpec
from rag_assets_tests.support.pipeline import wordllama_spec

DIMENSIONS = {"rotated": 256, "short": 128, "blind": 256}


class Variant:
    """An embedding backend over another one's vectors."""

    def __init__(self, kind: str, inner: Any) -> None:
        self._kind = kind
        self._inner = inner
        random = np.random.default_rng(0)
        # A rotation alone would keep every similarity; stretched, its scores tell it apart.
        stretch = np.diag(np.linspace(0.7, 1.3, 256))
        self._space = stretch @ np.linalg.qr(random.normal(size=(256, 256)))[0]

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        if self._kind == "blind":
            seeds = [int(digest(text), 16) for text in texts]
            return _unit(np.stack([np.random.default_rng(s).normal(size=256) for s in seeds]))
        vectors = np.asarray(self._inner.encode(texts), dtype=np.float32)
        return _unit(vectors @ self._space if self._kind == "rotated" else vectors[:, :128])


def variant(kind: str) -> Embedder:
    """A model of this kind, with a spec and so a signature of its own."""
    original = wordllama_spec()
    spec: ModelSpec = original.model_copy(
        update={"key": f"{kind}-v1", "name": kind, "dimension": DIMENSIONS[kind]}
    )
    return Embedder(spec, Variant(kind, load_embedder(original)._backend))


def _unit(vectors: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    scaled = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled.astype(np.float32)
