"""Feeds: which documents of a source may have changed, told as it happens.

A feed is a hint and never the truth: it may be late, repeat itself, or miss a change. Whoever
follows it looks the documents up in the source, and the listings find what it missed.

What belongs here: waiting for hints, from a queue of notifications or a folder's file system. What
does not: looking documents up (`source.py`), and requests to the queue (`event_queue.py`).
"""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from typing_extensions import override

from rag_assets.adapters.source.event_queue import EventQueue, Message
from rag_assets.core.addresses import FILE, parse_address
from rag_assets.core.errors import SourceError
from rag_assets.core.sources.bucket_events import changed_keys
from rag_assets.core.sources.keys import valid_text

GATHER_SECONDS = 0.03  # what comes within it is one batch
LONGEST_POLL = 5  # seconds, so that a process that ends is not waited for
UNDECODABLE = "Unable to decode path"  # in watchfiles's error
WATCHED: dict[str, Any] = {
    "watch_filter": None,
    "debounce": int(5000 * GATHER_SECONDS),
    "step": int(1000 * GATHER_SECONDS),
    "rust_timeout": 1000 * LONGEST_POLL,
    "yield_on_timeout": True,
    "raise_interrupt": False,
    "ignore_permission_denied": True,
}


@dataclass(frozen=True, slots=True)
class Hint:
    """Documents that may have changed.

    Attributes:
        keys: Their keys in the source, which need not exist.
        messages: The messages that named them, to be acknowledged.
        unreadable: Number of messages in an unknown format.
        list_all: Whether something changed that keys cannot tell: a folder was moved into place.
        more: Whether there may be more hints already.
    """

    keys: frozenset[str] = frozenset()
    messages: tuple[Message, ...] = ()
    unreadable: int = 0
    list_all: bool = False
    more: bool = False


class ChangeFeed(Protocol):
    """Hints, one after another."""

    def hints(self, stop: threading.Event, limit: int) -> Iterator[Hint]:
        """Yield hints until `stop` is set; an empty one at least every few seconds.

        What comes within some tens of milliseconds is one hint, of about `limit` documents at most.

        Raises:
            SourceError: There can be no hints now.
        """
        ...

    def acknowledge(self, hint: Hint) -> None:
        """Take note that a hint has been followed: it need not be given again."""
        ...


class QueueFeed(ChangeFeed):
    """The hints of a bucket's event notifications in a queue."""

    def __init__(self, queue: EventQueue, source: str) -> None:
        self._queue = queue
        self._bucket = parse_address(source)

    @override
    def hints(self, stop: threading.Event, limit: int) -> Iterator[Hint]:
        while not stop.is_set():
            messages = self._queue.receive(LONGEST_POLL)
            more = bool(messages)
            if messages:
                time.sleep(GATHER_SECONDS)
            while more and len(messages) < limit:
                further = self._queue.receive(0)
                messages, more = messages + further, bool(further)
            yield replace(self.hint(messages), more=more)

    def hint(self, messages: list[Message]) -> Hint:
        """Return what messages tell."""
        keys = [changed_keys(message.body, self._bucket.bucket) for message in messages]
        named = {key for names in keys for key in names or ()}
        prefix = self._bucket.prefix
        ids = frozenset(key.removeprefix(prefix) for key in named if key.startswith(prefix))
        return Hint(ids, tuple(messages), keys.count(None))

    def drained(self) -> Hint:
        """Return what all messages tell that are in the queue now, up to a limit; do not wait."""
        return self.hint([message for batch in self._queue.drain() for message in batch])

    @override
    def acknowledge(self, hint: Hint) -> None:
        self._queue.delete(list(hint.messages))


class FolderFeed(ChangeFeed):
    """The hints of a local folder's file system."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    @override
    def hints(self, stop: threading.Event, limit: int) -> Iterator[Hint]:
        from watchfiles import Change, watch  # noqa: PLC0415 - only the stream run needs it

        lost = True  # whether changes may have been missed: those before the watch began
        while not stop.is_set():
            try:
                watched = self._identity()
                for changes in watch(self._root, stop_event=stop, **WATCHED):
                    ids = [valid_text(self._key(path)) for _, path in changes]
                    folders = any(c is Change.added and Path(path).is_dir() for c, path in changes)
                    yield Hint(frozenset(ids), list_all=folders or lost)
                    lost = self._identity() != watched
                    if lost:  # another folder is in its place, which nobody watches yet
                        break
            except (OSError, RuntimeError) as error:
                if UNDECODABLE not in str(error):
                    raise SourceError(
                        f"Changes in {self._root} cannot be watched: {error}. They are found by"
                        " listing."
                    ) from error
                lost = True  # watchfiles ends at a name that is not UTF-8

    def _identity(self) -> tuple[int, int]:
        status = self._root.stat()
        return status.st_dev, status.st_ino

    def _key(self, path: str) -> str:
        return Path(path).relative_to(self._root).as_posix()

    @override
    def acknowledge(self, hint: Hint) -> None:
        pass


def open_feed(source: str, queue_url: str, options: Mapping[str, Any]) -> ChangeFeed | None:
    """Open the feed of a source: its queue if there is one, else a local folder's file system.

    Returns:
        None for any other source, whose changes are found by listing.

    Raises:
        SourceError: The queue cannot be opened.
    """
    if queue_url:
        return QueueFeed(EventQueue(queue_url, dict(options)), source)
    address = parse_address(source)
    return FolderFeed(Path(address.path)) if address.scheme == FILE else None
