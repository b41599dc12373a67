"""An object store in memory, whose writes can be made to fail like those of a process that dies."""

import itertools
from collections.abc import Callable

from typing_extensions import override

from rag_assets.adapters.objects.object_store import ObjectStore, StoredObject, content_token
from rag_assets.core.errors import CommitConflictError


class Died(BaseException):
    """The process died at a write."""


class MemoryStore(ObjectStore):
    """Objects of one sequence of operations; `dies_at` counts writes down.

    Attributes:
        dies_at: Number of writes after which the next one is the last; None for none.
        after: Whether that write still takes effect.
    """

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.dies_at: int | None = None
        self.after = False
        self._stamps = itertools.count()

    @property
    @override
    def address(self) -> str:
        return "memory:"

    @override
    def get(self, key: str) -> StoredObject | None:
        found = self.objects.get(key)
        return StoredObject(found[0], stamp=found[1]) if found else None

    @override
    def tail(self, key: str, size: int) -> bytes | None:
        found = self.objects.get(key)
        return found[0][-size:] if found else None

    @override
    def stamp(self, key: str) -> str | None:
        found = self.objects.get(key)
        return found[1] if found else None

    @override
    def put(self, key: str, data: bytes, expected: str | None) -> StoredObject:
        actual = self.get(key)
        if (actual.token if actual else None) != expected:
            raise CommitConflictError(key)
        return self._write(key, data)

    @override
    def add(self, key: str, data: bytes) -> None:
        self._write(key, data)

    @override
    def list(self, folder: str) -> dict[str, str]:
        found = {key: stamp for key, (_, stamp) in self.objects.items() if key.startswith(folder)}
        return dict(sorted(found.items()))

    @override
    def delete(self, key: str) -> None:
        self._die(lambda: self.objects.pop(key, None))

    def _write(self, key: str, data: bytes) -> StoredObject:
        stored = StoredObject(data, content_token(data), str(next(self._stamps)))
        self._die(lambda: self.objects.__setitem__(key, (data, stored.stamp)))
        return stored

    def _die(self, write: Callable[[], object]) -> None:
        if self.dies_at == 0:
            if self.after:
                write()
            raise Died
        if self.dies_at is not None:
            self.dies_at -= 1
        write()
