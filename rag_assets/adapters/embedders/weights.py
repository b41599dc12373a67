"""Verifies that the weights on disk are the ones the spec pins."""

from pathlib import Path

from rag_assets.adapters.package_files import sha256
from rag_assets.core.errors import WeightsMismatchError
from rag_assets.core.models.spec import ModelSpec


def verify_weights(spec: ModelSpec, path: Path) -> None:
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
