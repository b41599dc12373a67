"""The FlagEmbedding backend: runs any of its models in this process, on a GPU if there is one."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag_assets.adapters.embedders.weights import verify_weights
from rag_assets.adapters.package_files import PREFIX, local_path
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.spec import ModelClass, ModelSpec, Precision, Sparse
from rag_assets.core.models.vectors import Encoded, SparseVector

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
PICKLED_M3 = ("sparse_linear.pt", "colbert_linear.pt")
"""What BGE-M3 has beside its weights; there is no other form of these files."""


class FlagBackend:
    """One FlagEmbedding model on one device: `cuda:0` if there is a GPU, otherwise the CPU.

    Only one GPU is used, because FlagEmbedding starts a process for each further device.
    """

    def __init__(self, spec: ModelSpec, *, pickled_weights: bool = False) -> None:
        folder = _folder(spec)
        if not pickled_weights:
            _require_safetensors(spec, folder)
        if spec.weights_sha256 is not None:
            verify_weights(spec, _weights(folder, spec))
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # silences a warning on fork
        self._spec = spec
        self._model, self.on_gpu = _load(spec, folder)
        self._first_batch = FirstBatch(self._model.model)

    def encode(self, texts: list[str]) -> npt.NDArray[Any] | Encoded:
        """Return shape (len(texts), dimension); float16 on a GPU with fp16, otherwise float32."""
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
        if not sparse:
            return dense
        return Encoded(dense, [_by_token(weights) for weights in result["lexical_weights"]])


class FirstBatch:
    """Reuses the output of the first batch of a call, which FlagEmbedding computes twice.

    The first time is only to find out whether a batch of that size fits into memory. With 256 texts
    in batches of 32, that is one batch in nine.
    """

    def __init__(self, model: Any) -> None:
        from transformers import PreTrainedModel  # noqa: PLC0415 - heavy

        encoder = next(part for part in model.modules() if isinstance(part, PreTrainedModel))
        self._forward: Callable[..., Any] = encoder.forward
        self._expected = False
        self._cached: tuple[Any, Any] | None = None
        encoder.forward = self

    def begin(self) -> None:
        """Announce that the next batch is the first one of a call."""
        self._expected, self._cached = True, None

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Compute a batch, or return the output of the previous one if it is the same."""
        expected, cached = self._expected, self._cached
        self._expected, self._cached = False, None
        tokens = options.get("input_ids")
        if cached is not None and tokens is not None and cached[0].equal(tokens):
            return cached[1]
        output = self._forward(*args, **options)
        if expected:
            self._cached = (tokens, output)
        return output


def _by_token(weights: Mapping[str, Any]) -> SparseVector:
    return {int(token): float(weight) for token, weight in weights.items() if weight > 0}


def _folder(spec: ModelSpec) -> Path:
    """Return the model's folder, downloaded from the model hub at its revision if necessary."""
    path = local_path(spec.name)
    if path.is_dir():
        return path
    if spec.name.startswith((PREFIX, "/", ".")):
        raise ConfigurationError(f"Model {spec.key}: the folder {path} does not exist.")
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    try:
        return Path(snapshot_download(spec.name, revision=spec.revision))
    except Exception as error:
        raise ConfigurationError(
            f"Model {spec.key}: {spec.name!r} is not a local folder and could not be downloaded"
            f" from the model hub at revision {spec.revision}: {error}"
        ) from error


def _require_safetensors(spec: ModelSpec, folder: Path) -> None:
    """Refuse a model that would be loaded from pickle files, which can run code.

    Where the same weights are there in both forms, the library loads the safetensors.
    """
    pickled = [] if any(folder.glob("*.safetensors")) else sorted(folder.glob("*.bin"))
    if spec.model_class is ModelClass.ENCODER_ONLY_M3:
        pickled += [folder / name for name in PICKLED_M3 if (folder / name).exists()]
    if pickled:
        raise ConfigurationError(
            f"Model {spec.key}: {folder} has weights in pickle files"
            f" ({', '.join(path.name for path in pickled)}), which can run code when they are"
            " loaded. Convert them to safetensors or, if you trust their origin, set"
            " RAG_ASSETS_PICKLED_WEIGHTS=true."
        )


def _weights(folder: Path, spec: ModelSpec) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(
        f"Model {spec.key} pins its weights, but {folder} contains none of"
        f" {', '.join(WEIGHT_FILES)}."
    )


def _load(spec: ModelSpec, folder: Path) -> tuple[Any, bool]:
    """Load the model; return it and whether it is on a GPU."""
    try:
        import torch  # noqa: PLC0415
        from FlagEmbedding import FlagAutoModel  # noqa: PLC0415
        from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"Model {spec.key} needs FlagEmbedding: pip install 'rag-assets[flagembedding]'."
        ) from error
    disable_progress_bar()  # type: ignore[no-untyped-call]  # a run's output goes to a log
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
