"""Parsing in child processes that can be killed.

A parser may hang, exhaust the memory or crash, and must not take the run down with it. This module
has both ends: `ParserPool` in the run, and `main` in the child. A child is a fresh interpreter (not
a fork of a threaded process, nor multiprocessing's spawn, which would import the run's main module
again). It inherits only those environment variables that an interpreter needs: code that reads
untrusted files must not see credentials.
"""

import json
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
from dataclasses import asdict
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Self

import psutil
from pydantic import TypeAdapter, ValidationError

from rag_assets.adapters.parsing.formats.content import first_line
from rag_assets.adapters.parsing.parser import RULES, Rules, parse
from rag_assets.core.documents.document import Outcome, ParsedDocument
from rag_assets.core.errors import ParserStartError

DOCUMENTS_PER_PROCESS = 1000  # then the process is replaced, to bound memory leaks
BATCH_SECONDS = 5.0  # a batch that takes longer is parsed one document at a time
_POLL_SECONDS = 0.05
_START_SECONDS = 60
_ENVIRONMENT = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH")
_IMPORT_ROOT = str(Path(__file__).resolve().parents[3])
_COMMAND = [sys.executable, "-m", "rag_assets.adapters.parsing.worker"]
_MEBIBYTE = 1 << 20
_MAX_ANSWER_BYTES = 1 << 29
_DOCUMENT = TypeAdapter(ParsedDocument)


class ParserPool:
    """A pool of child processes that parse documents; they start on demand and are reused.

    `parse` and `parse_all` may be called from any number of threads, and wait for a free child.
    """

    def __init__(
        self,
        workers: int,
        timeout_seconds: float,
        memory_bytes: int,
        rules: Rules = RULES,
    ) -> None:
        """Prepare the pool; no process starts yet.

        Args:
            workers: Maximum number of child processes.
            timeout_seconds: Maximum wall time per document.
            memory_bytes: Maximum resident memory of a child, its libraries included.
            rules: What the children read.
        """
        self.rules = rules
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._slots: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(workers):
            self._slots.put(None)
        self._children: set[_Child] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for child in list(self._children):
            self._drop(child)

    @property
    def pids(self) -> list[int]:
        """The ids of the running processes, for tests and debugging."""
        return [child.pid for child in list(self._children)]

    def parse(self, document_id: str, content: bytes) -> ParsedDocument:
        """Parse one document in a child; if that fails, this is the document's outcome.

        Raises:
            ParserStartError: The child cannot be started.
        """
        try:
            return self._request([(document_id, content)], self._timeout_seconds)[0]
        except _ChildEndedError as ended:
            return ended.result

    def parse_all(self, documents: Sequence[tuple[str, bytes]]) -> list[ParsedDocument]:
        """Parse a batch of small documents in one request to a child, which saves overhead.

        If the batch fails, each document is parsed separately, as by `parse`.

        Returns:
            The result for each document (id, content), in order.

        Raises:
            ParserStartError: As for `parse`.
        """
        if len(documents) > 1:
            with suppress(_ChildEndedError):
                return self._request(documents, min(self._timeout_seconds, BATCH_SECONDS))
        return [self.parse(*document) for document in documents]

    def _request(
        self, documents: Sequence[tuple[str, bytes]], seconds: float
    ) -> list[ParsedDocument]:
        """Let a child parse documents.

        Raises:
            _ChildEndedError: The child exceeded a limit or died.
        """
        child = self._slots.get()
        try:
            child = self._usable(child)
            return self._supervise(child, documents, seconds)
        finally:
            self._slots.put(child)

    def _usable(self, child: "_Child | None") -> "_Child":
        """Return this child, or a new one if it is dead or due for replacement."""
        if child and child.alive and child.documents < DOCUMENTS_PER_PROCESS:
            return child
        if child:
            self._drop(child)
        child = _Child(self._memory_bytes, self.rules)
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
                parsed = child.request(documents, seconds)
            except (EOFError, OSError, ValidationError):  # the child is gone, or not itself
                parsed = None
            except BaseException:  # never reuse a child that may still respond to this request
                child.kill()
                raise
        if parsed is not None and watch.result is None:
            return parsed
        child.kill()
        crashed = ParsedDocument(Outcome.CRASHED, child.exit_message())
        raise _ChildEndedError(watch.result or crashed)


class _ChildEndedError(Exception):
    """A child was killed or died before it responded; `result` is the outcome of its document."""

    def __init__(self, result: ParsedDocument) -> None:
        super().__init__(result.error)
        self.result = result


class _Child:
    """A process that runs `main`, and the parent's end of the pipe to it."""

    def __init__(self, memory_bytes: int, rules: Rules) -> None:
        self.documents = 0
        self._pipe, child_end = Pipe()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        with child_end:
            self._process = subprocess.Popen(
                [
                    *(*_COMMAND, str(child_end.fileno()), str(memory_bytes)),
                    json.dumps(asdict(rules)),
                ],
                pass_fds=[child_end.fileno()],
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
                self._pipe.recv_bytes(_MAX_ANSWER_BYTES)
                return
        except (EOFError, OSError):
            pass
        self.kill()
        reason = self._last_line()
        self.close()
        raise ParserStartError(f"The parser process does not start: {reason}")

    def request(
        self, documents: Sequence[tuple[str, bytes]], seconds: float
    ) -> list[ParsedDocument]:
        self.documents += len(documents)
        self._pipe.send((documents, seconds))
        return [
            _DOCUMENT.validate_json(self._pipe.recv_bytes(_MAX_ANSWER_BYTES)) for _ in documents
        ]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self._pipe.close()
        self._stderr.close()

    def exit_message(self) -> str:
        """Describe how the process ended."""
        code = self._process.returncode
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        line = self._last_line()
        return f"The parser process died ({cause}){': ' + line if line else '.'}"

    def _last_line(self) -> str:
        """Return the last line that the process wrote to stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _environment() -> dict[str, str]:
    """Return the variables that an interpreter needs to find its libraries and this package."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    search_path = os.pathsep.join(filter(None, [_IMPORT_ROOT, os.environ.get("PYTHONPATH")]))
    return {**kept, "PYTHONPATH": search_path}


class _Watch(threading.Thread):
    """Kills a child that exceeds its time or memory, which also breaks the pipe to it.

    So the thread that communicates with the child needs no timeout of its own.
    """

    def __init__(self, child: _Child, timeout_seconds: float, memory_bytes: int) -> None:
        super().__init__(name=f"watch-parser-{child.pid}", daemon=True)
        self.result: ParsedDocument | None = None
        self._child = child
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._done = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self.join()

    def run(self) -> None:
        deadline = time.monotonic() + self._timeout_seconds
        while not self._done.wait(_POLL_SECONDS):
            if self._resident_bytes() > self._memory_bytes:
                limit = f"{self._memory_bytes // _MEBIBYTE} MiB"
                self._kill_child(
                    Outcome.OUT_OF_MEMORY,
                    f"Parsing took more memory than {limit} (RAG_ASSETS_PARSE_MEMORY_BYTES).",
                )
            elif time.monotonic() > deadline:
                limit = f"{self._timeout_seconds:g} s"
                self._kill_child(
                    Outcome.TIMED_OUT,
                    f"Parsing took longer than {limit} (RAG_ASSETS_PARSE_TIMEOUT_SECONDS).",
                )

    def _resident_bytes(self) -> int:
        try:
            return int(psutil.Process(self._child.pid).memory_info().rss)
        except psutil.Error:  # the process is gone already
            return 0

    def _kill_child(self, outcome: Outcome, reason: str) -> None:
        self.result = ParsedDocument(outcome, reason)
        self._child.kill()
        self._done.set()


# --- In the child --------------------------------------------------------------------------------


def main(pipe: Connection, memory_bytes: int, rules: Rules) -> None:
    """Parse documents that arrive through the pipe, until the other end closes it."""
    _limit_resources(memory_bytes)
    pipe.send_bytes(b"ready")
    while True:
        try:
            documents, seconds = pipe.recv()
        except EOFError:
            return
        _limit_time(seconds)
        for name, content in documents:
            pipe.send_bytes(_answer(name, content, rules))
        signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(document_id: str, content: bytes, rules: Rules) -> bytes:
    """Return the parsed document as JSON: what untrusted files led to is data, never code."""
    try:
        return _DOCUMENT.dump_json(_parse(document_id, content, rules))
    except ValueError as error:  # lone surrogates, which are not text
        return _DOCUMENT.dump_json(ParsedDocument(Outcome.FAILED, ascii(str(error))))


def _parse(document_id: str, content: bytes, rules: Rules) -> ParsedDocument:
    try:
        return parse(document_id, content, rules)
    except MemoryError:
        return ParsedDocument(Outcome.OUT_OF_MEMORY, "Parsing ran out of memory.")
    except BaseException as error:  # a panic in Rust is not an Exception
        return ParsedDocument(Outcome.FAILED, f"{type(error).__name__}: {first_line(error)}")


def _limit_resources(memory_bytes: int) -> None:
    """Disable core dumps, and limit memory in case it grows too fast for the watch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # interrupts are handled by the parent
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    private_bytes = 2 * memory_bytes + (1 << 30)  # whole thread stacks count
    resource.setrlimit(resource.RLIMIT_DATA, (private_bytes, private_bytes))


def _limit_time(seconds: float) -> None:
    """Let the kernel end the process if the watch does not, as its parent may have been killed."""
    signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 1)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]), Rules(**json.loads(sys.argv[3])))
