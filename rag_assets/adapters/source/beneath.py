"""Listing and opening what is beneath a folder, and nothing else.

Whoever may write to the folder may swap a file for a link or a pipe at any time. So every component
of a path is opened beneath the one before, and a link is never followed, not even for a moment.
The root itself may be a link.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

FLAGS = os.O_RDONLY | os.O_CLOEXEC
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EMLINK})
"""How a system answers if a file or folder is gone, or something else is in its place."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a folder.

    Attributes:
        name: Its name.
        is_folder: Whether it is a folder, and not a link to one.
        status: Its own status, not that of what a link leads to; None for a folder, or if it
            cannot be determined.
        problem: Why it cannot be determined.
    """

    name: str
    is_folder: bool
    status: os.stat_result | None = None
    problem: str = ""


def is_gone(error: OSError) -> bool:
    """Whether an error means that there is no such file or folder, and not that it is denied."""
    return error.errno in GONE


def entries(root: Path, folder: str) -> list[Entry]:
    """Return the entries of a folder beneath the root, in no order.

    Raises:
        OSError: The folder cannot be listed; see `is_gone`.
    """
    with _opened(root, folder) as descriptor, os.scandir(descriptor) as scan:
        return [_entry(entry) for entry in scan]


def status(root: Path, key: str) -> os.stat_result:
    """Return the status of what is at a path beneath the root.

    Raises:
        OSError: It cannot be determined; see `is_gone`.
    """
    folder, _, name = key.rpartition("/")
    with _opened(root, folder) as descriptor:
        return os.stat(_valid(name), dir_fd=descriptor, follow_symlinks=False)


@contextmanager
def regular_file(root: Path, key: str) -> Iterator[BinaryIO]:
    """Open a regular file beneath the root.

    Raises:
        OSError: It cannot be opened; see `is_gone`.
    """
    folder, _, name = key.rpartition("/")
    with _opened(root, folder) as descriptor:
        # Without O_NONBLOCK, opening a pipe would wait for its writer.
        flags = FLAGS | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        opened = os.open(_valid(name), flags, dir_fd=descriptor)
    with os.fdopen(opened, "rb") as file:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise FileNotFoundError(errno.ENOENT, "it is not a regular file", key)
        yield file


@contextmanager
def _opened(root: Path, folder: str) -> Iterator[int]:
    descriptor = os.open(root, FLAGS | os.O_DIRECTORY)
    try:
        for part in folder.strip("/").split("/") if folder else ():
            flags = FLAGS | os.O_DIRECTORY | os.O_NOFOLLOW
            below = os.open(_valid(part), flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _valid(part: str) -> str:
    if part in ("", ".", ".."):
        raise FileNotFoundError(errno.ENOENT, "it is not beneath the root", part)
    return part


def _entry(entry: os.DirEntry[str]) -> Entry:
    try:
        if entry.is_dir(follow_symlinks=False):
            return Entry(entry.name, is_folder=True)
        return Entry(entry.name, is_folder=False, status=entry.stat(follow_symlinks=False))
    except OSError as error:
        problem = "" if is_gone(error) else f"{error.strerror}"
        return Entry(entry.name, is_folder=False, problem=problem)
