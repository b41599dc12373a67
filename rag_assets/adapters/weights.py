"""Models' files: where a checkpoint is, and whether its weights are those that the spec allows.

What belongs here: what is true of any model's files. What does not: loading them, for which each
library has a module of its own.
"""

from collections.abc import Iterable
from pathlib import Path

from rag_assets.adapters.package_files import PREFIX, local_path, sha256
from rag_assets.core.errors import ConfigurationError, WeightsMismatchError
from rag_assets.core.models.base_spec import BaseSpec

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")


def checkpoint(spec: BaseSpec, *, pickled_weights: bool, pickled_beside: Iterable[str]) -> Path:
    """Return a model's folder, downloaded from the model hub at its revision if necessary.

    Args:
        spec: The model.
        pickled_weights: Whether weights may be pickle files, which can run code.
        pickled_beside: Names of pickle files that are loaded in addition to the weights.

    Raises:
        ConfigurationError: The folder is missing or cannot be downloaded, or its weights are
            pickled or not the pinned ones.
    """
    folder = _folder(spec)
    if not pickled_weights:
        _require_safetensors(spec, folder, pickled_beside)
    if spec.weights_sha256 is not None:
        verify_weights(spec, _weights(spec, folder))
    return folder


def verify_weights(spec: BaseSpec, path: Path) -> None:
    """Refuse weights whose digest is not the pinned one; accept any if the spec pins none.

    Raises:
        WeightsMismatchError: The digests differ.
        ConfigurationError: The file cannot be read.
    """
    if spec.weights_sha256 is None:
        return
    actual = sha256(path)
    if actual != spec.weights_sha256:
        raise WeightsMismatchError(
            f"Model {spec.key}: {path} has SHA-256 {actual}, but the spec pins"
            f" {spec.weights_sha256}. Restore the weights, or give the new ones a new model key."
        )


def _folder(spec: BaseSpec) -> Path:
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


def _require_safetensors(spec: BaseSpec, folder: Path, beside: Iterable[str]) -> None:
    """Refuse a model that would be loaded from pickle files.

    Where the same weights are there in both forms, libraries load the safetensors.
    """
    pickled = [] if any(folder.glob("*.safetensors")) else sorted(folder.glob("*.bin"))
    pickled += [folder / name for name in beside if (folder / name).exists()]
    if pickled:
        raise ConfigurationError(
            f"Model {spec.key}: {folder} has weights in pickle files"
            f" ({', '.join(path.name for path in pickled)}), which can run code when they are"
            " loaded. Convert them to safetensors or, if you trust their origin, set"
            " RAG_ASSETS_PICKLED_WEIGHTS=true."
        )


def _weights(spec: BaseSpec, folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(
        f"Model {spec.key} pins its weights, but {folder} contains none of"
        f" {', '.join(WEIGHT_FILES)}."
    )
