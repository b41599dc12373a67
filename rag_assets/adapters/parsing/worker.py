"""Parsing in child processes that can be killed.

A parser may hang, eat all memory or crash; none of that may take the run down with it. Here are
both ends: `ParserPool` in the run, and `main`, what a child does. A child is a fresh interpreter
(not a fork of a threaded process, and not multiprocessing's spawn, which would import the run's
main module again), and it gets none of the run's environment but what an interpreter needs:
code that reads strangers' files needs no credentials.
"""

import os
import queue
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from rag_assets.adapters.parsing.parser import MAX_CHARACTERS, parse
from rag_assets.core.documents.document import Outcome, ParsedDocument
from rag_assets.core.errors import ParserStartError

DOCUMENTS_PER_PROCESS = 1000  # then a fresh one, so that leaks stay small
TOGETHER_SECONDS = 5.0  # documents that take longer together are parsed one by one
_POLL_SECONDS = 0.05
_START_SECONDS = 60
_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
_IMPORT_ROOT = str(Path(__file__).resolve().parents[3])
_MEBIBYTE = 1 << 20


class ParserPool:
    """At most `workers` child processes that parse; started when first needed, then reused.

    Both ways to parse may be called from any number of threads and wait for a free child.
    """

    def __init__(
        self,
        workers: int,
        timeout_seconds: float,
        memory_bytes: int,
        *,
        max_characters: int = MAX_CHARACTERS,
        documents_per_process: int = DOCUMENTS_PER_PROCESS,
    ) -> None:
        """Prepare the pool; no process starts yet.

        Args:
            workers: How many documents are parsed at the same time.
            timeout_seconds: The wall time that one document may take.
            memory_bytes: The resident memory a child may have, its libraries included.
            max_characters: A document with more text is an outcome `FAILED`.
            documents_per_process: After so many documents a child is replaced.
        """
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._max_characters = max_characters
        self._documents_per_process = documents_per_process
        self._slots: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(workers):
            self._slots.put(None)
        self._children: set[_Child] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for child in list(self._children):
            self._drop(child)

    @property
    def pids(self) -> list[int]:
        """The processes that run now, for tests and for a person who looks."""
        return [child.pid for child in list(self._children)]

    def parse(self, document_id: str, content: bytes) -> ParsedDocument:
        """Parse one document in a child; whatever happens to the child becomes the outcome.

        Raises:
            ParserStartError: If no child can be started.
        """
        try:
            return self._ask([(document_id, content)], self._timeout_seconds)[0]
        except _ChildEndedError as ended:
            return ended.verdict

    def parse_all(self, documents: Sequence[tuple[str, bytes]]) -> list[ParsedDocument]:
        """Parse small documents with one message to a child, which costs less than the parsing.

        Whatever goes wrong with them together, each is then parsed alone, as by `parse`.

        Args:
            documents: (document id, content) of each.

        Returns:
            What became of each, in their order.

        Raises:
            ParserStartError: As `parse`.
        """
        if len(documents) > 1:
            with suppress(_ChildEndedError):
                return self._ask(documents, min(self._timeout_seconds, TOGETHER_SECONDS))
        return [self.parse(*document) for document in documents]

    def _ask(self, documents: Sequence[tuple[str, bytes]], seconds: float) -> list[ParsedDocument]:
        """Have a child parse documents.

        Raises:
            _ChildEndedError: It took too long or too much, or died.
        """
        child = self._slots.get()
        try:
            child = self._usable(child)
            return self._supervise(child, documents, seconds)
        finally:
            self._slots.put(child)

    def _usable(self, child: "_Child | None") -> "_Child":
        """This child, or a new one in place of a dead or worn-out one."""
        if child and child.alive and child.documents < self._documents_per_process:
            return child
        if child:
            self._drop(child)
        child = _Child(self._memory_bytes)
        self._children.add(child)
        return child

    def _drop(self, child: "_Child") -> None:
        child.close()
        self._children.discard(child)

    def _supervise(
        self, child: "_Child", documents: Sequence[tuple[str, bytes]], seconds: float
    ) -> list[ParsedDocument]:
        with _Watch(child, seconds, self._memory_bytes) as watch:
            try:
                found = child.ask(documents, self._max_characters, seconds)
            except (EOFError, OSError):  # the pipe broke: the child is gone
                found = None
            except BaseException:  # never reuse a child that may still answer this question
                child.kill()
                raise
        if found is not None and watch.verdict is None:
            return found
        child.kill()
        raise _ChildEndedError(watch.verdict or ParsedDocument(Outcome.CRASHED, child.epitaph()))


class _ChildEndedError(Exception):
    """A child was killed, or died, before it answered; `verdict` is what that says of its work."""

    def __init__(self, verdict: ParsedDocument) -> None:
        super().__init__(verdict.error)
        self.verdict = verdict


class _Child:
    """A process that runs `main`, and this side of the pipe to it."""

    def __init__(self, memory_bytes: int) -> None:
        self.documents = 0
        self._pipe, theirs = Pipe()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno()), str(memory_bytes)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._stderr,
                env=_environment(),
            )
        self._wait_until_ready()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def _wait_until_ready(self) -> None:
        try:
            if self._pipe.poll(_START_SECONDS):
                self._pipe.recv()
                return
        except (EOFError, OSError):
            pass
        self.kill()
        words = self._last_words()
        self.close()
        raise ParserStartError(f"The parser's process does not start: {words}")

    def ask(
        self, documents: Sequence[tuple[str, bytes]], max_characters: int, seconds: float
    ) -> list[ParsedDocument]:
        self.documents += len(documents)
        self._pipe.send((documents, max_characters, seconds))
        answer: list[ParsedDocument] = self._pipe.recv()
        return answer

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._pipe.close()
        self._stderr.close()

    def epitaph(self) -> str:
        """How the process ended, for a person."""
        code = self._process.returncode
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        words = self._last_words()
        return f"The parser's process died ({cause}){': ' + words if words else '.'}"

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _environment() -> dict[str, str]:
    """What an interpreter needs to find its libraries, and this package wherever it lies."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    search_path = os.pathsep.join(filter(None, [_IMPORT_ROOT, os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": search_path}


class _Watch(threading.Thread):
    """Kills a child that takes too long or too much, which also breaks the pipe to it.

    So the thread that talks to the child needs no time limits of its own.
    """

    def __init__(self, child: _Child, timeout_seconds: float, memory_bytes: int) -> None:
        super().__init__(name=f"watch-parser-{child.pid}", daemon=True)
        self.verdict: ParsedDocument | None = None
        self._child = child
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._done = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        deadline = time.monotonic() + self._timeout_seconds
        while not self._done.wait(_POLL_SECONDS):
            if self._resident_bytes() > self._memory_bytes:
                limit = f"{self._memory_bytes // _MEBIBYTE} MiB"
                self._condemn(Outcome.OUT_OF_MEMORY, f"Parsing took more memory than {limit}.")
            elif time.monotonic() > deadline:
                limit = f"{self._timeout_seconds:g} s"
                self._condemn(Outcome.TIMED_OUT, f"Parsing took longer than {limit}.")

    def _resident_bytes(self) -> int:
        try:
            return int(psutil.Process(self._child.pid).memory_info().rss)
        except psutil.Error:  # it is gone already
            return 0

    def _condemn(self, outcome: Outcome, reason: str) -> None:
        self.verdict = ParsedDocument(outcome, reason)
        self._child.kill()
        self._done.set()


# --- The child -----------------------------------------------------------------------------------


def main(pipe: Connection, memory_bytes: int) -> None:
    """Parse what comes through the pipe until the other end closes it."""
    _limit_resources(memory_bytes)
    pipe.send("ready")
    while True:
        try:
            documents, max_characters, seconds = pipe.recv()
        except EOFError:
            return
        _limit_time(seconds)
        pipe.send([_parse(name, content, max_characters) for name, content in documents])
        signal.setitimer(signal.ITIMER_REAL, 0)


def _parse(document_id: str, content: bytes, max_characters: int) -> ParsedDocument:
    try:
        return parse(document_id, content, max_characters=max_characters)
    except MemoryError:
        return ParsedDocument(Outcome.OUT_OF_MEMORY, "Parsing took more memory than there is.")
    except BaseException as error:  # a panic in Rust is not an Exception
        reason = (str(error).strip().splitlines() or ["no reason given"])[0]
        return ParsedDocument(Outcome.FAILED, f"{type(error).__name__}: {reason}")


def _limit_resources(memory_bytes: int) -> None:
    """No core dumps, and a backstop for what grows between two looks of the watch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides what an interrupt means
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    private_bytes = 2 * memory_bytes + (1 << 30)  # thread stacks count, touched or not
    resource.setrlimit(resource.RLIMIT_DATA, (private_bytes, private_bytes))


def _limit_time(seconds: float) -> None:
    """The kernel ends the process if the watch did not: its parent may have been killed."""
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]))
