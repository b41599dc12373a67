"""Which documents are read and parsed together."""

from collections.abc import Iterable
from typing import Any

BATCH_BYTES = 256 << 10
FILE_BYTES = 4096  # that a file counts for beside its size


def batches(files: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Put small files together; a large one stays by itself.

    Args:
        files: Rows of `source_files`.

    Returns:
        All files, the largest first, so that none of them is waited for at the end.
    """
    found: list[list[dict[str, Any]]] = []
    room = 0
    for file in sorted(files, key=lambda file: file["size"], reverse=True):
        if room <= 0:
            found.append([])
            room = BATCH_BYTES
        found[-1].append(file)
        room -= file["size"] + FILE_BYTES
    return found
