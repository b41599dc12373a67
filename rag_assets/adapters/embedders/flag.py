"""FlagEmbedding in process: any of its models, on a GPU if there is one."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.adapters.embedders.weights import verify_weights
from rag_assets.adapters.package_files import PREFIX, local_path
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.spec import ModelSpec, Precision, Sparse
from rag_assets.core.models.vectors import Encoded, SparseVector

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


class FlagBackend:
    """One FlagEmbedding model on one device: `cuda:0` where there is a GPU, else the CPU.

    A pod has one GPU; FlagEmbedding would start a process for each further one it saw.
    """

    def __init__(self, spec: ModelSpec) -> None:
        folder = _folder(spec)
        if spec.weights_sha256 is not None:
            verify_weights(spec, _weights(folder, spec))
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # silences a warning on fork
        self._spec = spec
        self._model, self.on_gpu = _load(spec, folder)
        self._first_batch = FirstBatch(self._model.model)

    def encode(self, texts: list[str]) -> npt.NDArray[Any] | Encoded:
        """Return shape (len(texts), dimension); float16 on a GPU with fp16, else float32."""
        sparse = self._spec.sparse is Sparse.MODEL
        self._first_batch.begin()
        result: Any = self._model.encode(
            texts,
            batch_size=self._spec.batch_size,
            max_length=self._spec.max_tokens,
            **({"return_sparse": True} if sparse else {}),
        )
        if not isinstance(result, dict):
            return np.asarray(result)
        dense = np.asarray(result["dense_vecs"])
        return (
            Encoded(dense, [_by_token(w) for w in result["lexical_weights"]]) if sparse else dense
        )


class FirstBatch:
    """Keeps the output of a call's first batch, which FlagEmbedding computes twice.

    Once to see whether a batch of that size fits into memory, and once for the vectors: with 256
    texts in batches of 32, an eighth of all the work.
    """

    def __init__(self, model: Any) -> None:
        from transformers import PreTrainedModel  # noqa: PLC0415 - heavy

        encoder = next(part for part in model.modules() if isinstance(part, PreTrainedModel))
        self._forward: Callable[..., Any] = encoder.forward
        self._awaited = False
        self._kept: tuple[Any, Any] | None = None
        encoder.forward = self

    def begin(self) -> None:
        """Expect the first batch of a call next."""
        self._awaited, self._kept = True, None

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compute a batch, or return what was computed of the same one just before."""
        (awaited, self._awaited), (kept, self._kept) = (self._awaited, False), (self._kept, None)
        tokens = options.get("input_ids")
        if kept is not None and tokens is not None and kept[0].equal(tokens):
            return kept[1]
        output = self._forward(*args, **options)
        if awaited:
            self._kept = (tokens, output)
        return output


def _by_token(weights: Mapping[str, Any]) -> SparseVector:
    return {int(token): float(weight) for token, weight in weights.items() if weight > 0}


def _folder(spec: ModelSpec) -> Path:
    """Return where the model lies, fetched from the hub at its pinned revision if need be."""
    path = local_path(spec.name)
    if path.is_dir():
        return path
    if spec.name.startswith((PREFIX, "/", ".")):
        raise ConfigurationError(f"Model {spec.key}: there is no folder {path}.")
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    try:
        return Path(snapshot_download(spec.name, revision=spec.revision))
    except Exception as error:
        raise ConfigurationError(
            f"Model {spec.key}: {spec.name!r} is no local folder and could not be fetched from"
            f" the hub at revision {spec.revision}: {error}"
        ) from error


def _weights(folder: Path, spec: ModelSpec) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(
        f"Model {spec.key} pins its weights, but {folder} has none of {', '.join(WEIGHT_FILES)}."
    )


def _load(spec: ModelSpec, folder: Path) -> tuple[Any, bool]:
    """Return the model, and whether it is on a GPU."""
    try:
        import torch  # noqa: PLC0415
        from FlagEmbedding import FlagAutoModel  # noqa: PLC0415
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"Model {spec.key} needs FlagEmbedding: pip install 'rag-assets[flagembedding]'."
        ) from error
    disable_progress_bar()  # type: ignore[no-untyped-call]  # of loading the weights; runs have logs, not terminals
    on_gpu = torch.cuda.is_available()
    try:
        model = FlagAutoModel.from_finetuned(
            str(folder),
            model_class=spec.model_class.value,
            pooling_method=spec.pooling.value,
            normalize_embeddings=spec.normalize,
            use_fp16=on_gpu and spec.precision is Precision.FP16,
            devices="cuda:0" if on_gpu else "cpu",
            trust_remote_code=False,
            query_instruction_format="{}{}",
        )
    except Exception as error:
        raise ConfigurationError(f"Model {spec.key} cannot be loaded: {error}") from error
    return model, on_gpu
