"""The batches in which documents are read and parsed."""

from collections.abc import Iterable
from typing import Any

BATCH_BYTES = 256 << 10
FILE_BYTES = 4096  # added to the size of each file, for its overhead


def batches(files: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Group small files into batches; a large file is a batch of its own.

    Args:
        files: Rows of `source_files`.

    Returns:
        The batches, with the largest files first, so that none of those is left for the end.
    """
    batched: list[list[dict[str, Any]]] = []
    room = 0
    for file in sorted(files, key=lambda file: file["size"], reverse=True):
        if room <= 0:
            batched.append([])
            room = BATCH_BYTES
        batched[-1].append(file)
        room -= file["size"] + FILE_BYTES
    return batched
