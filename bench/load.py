"""A load of queries, and the proof of what answered them.

    python -m bench.load --questions FILE --out FILE

Clients ask the live index in a loop, through `Searcher` or the search service (--url), until the
standard input ends; each answer is a line of the output. Every hit's score is checked later against
the similarity that each model gives its question and text: the hits of one answer must all agree
with one and the same model.
"""

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import click
import numpy as np

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.adapters.milvus.hits import HIT_FIELDS
from rag_assets.adapters.milvus.rows import VECTOR_FIELD
from rag_assets.clients.service import SearchClient
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import load_settings
from rag_assets_tests.support.held import milvus_client

Search = Callable[[str, int], list[Any]]

AGREES = 2e-3  # between a score of Milvus and the cosine computed here


@dataclass(frozen=True, slots=True)
class Answer:
    """One query: when it began (monotonic), how long it took, and what came of it."""

    at: float
    seconds: float
    question: str
    hits: list[tuple[str, float]] = field(default_factory=list)  # (text, score)
    error: str = ""


class Load:
    """Clients that ask one question after the other, with a pause of some seconds or none."""

    def __init__(self, search: Search, questions: Sequence[str], pause: float = 0.0) -> None:
        self.answers: list[Answer] = []
        self._pause = pause
        self._search = search
        self._questions = questions
        self._stop = threading.Event()
        self._clients = 1

    @contextmanager
    def running(self, clients: int) -> Iterator["Load"]:
        """Ask as long as the block lasts."""
        self._clients = clients
        threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _ask(self, client: int) -> None:
        self._stop.wait(self._pause * client / self._clients)  # at a steady rate, not all at once
        for question in itertools.islice(itertools.cycle(self._questions), client, None):
            if self._stop.is_set():
                return
            self.answers.append(ask(self._search, question))
            self._stop.wait(self._pause)


def ask(search: Search, question: str) -> Answer:
    """Ask once; return the answer, whatever came of it."""
    started, hits, error = time.monotonic(), [], ""
    try:
        hits = [(hit.text, hit.score) for hit in search(question, 5)]
    except Exception as raised:  # whatever fails a query is what is looked for
        error = repr(raised)
    return Answer(started, time.monotonic() - started, question, hits, error)


def answered_by(answers: Sequence[Answer], encoders: Mapping[str, Embedder]) -> list[str]:
    """Return for each answer the model that all of its scores agree with; `mixed` if none does."""
    evaluators = {key: _Judge(encoder) for key, encoder in encoders.items()}
    return [
        next((key for key, evaluate in evaluators.items() if evaluate.agrees(answer)), "mixed")
        for answer in answers
    ]


class _Judge:
    """One model's own word on how similar a question and a text are."""

    def __init__(self, encoder: Embedder) -> None:
        self._encoder = encoder
        self._questions: dict[str, np.ndarray] = {}
        self._texts: dict[str, np.ndarray] = {}

    def agrees(self, answer: Answer) -> bool:
        if answer.question not in self._questions:
            encoded = self._encoder.encode_queries([answer.question])
            self._questions[answer.question] = encoded.dense[0]
        new = [text for text, _ in answer.hits if text not in self._texts]
        self._texts |= zip(new, self._encoder.encode_passages(new, new).dense, strict=True)
        question = self._questions[answer.question]
        return bool(answer.hits) and all(
            abs(float(self._texts[text] @ question) - score) < AGREES for text, score in answer.hits
        )


class Bare:
    """The encoder and the bare client, which is all that a search needs at the least."""

    def __init__(self, searcher: Searcher) -> None:
        serving = searcher.releases.current()
        self._encoder, self._collection = serving.encoder, serving.release.collection
        self._client = milvus_client(load_settings().milvus_uri)

    def search(self, question: str, limit: int) -> list[Any]:
        """Find the nearest chunks."""
        found = self._client.search(
            self._collection,
            [self._encoder.encode(question).dense],
            limit=limit,
            anns_field=VECTOR_FIELD,
            output_fields=list(HIT_FIELDS),
            consistency_level="Bounded",
        )
        return [Scored(one["entity"]["text"], one["distance"]) for one in found[0]]


class Scored(NamedTuple):
    """What an answer keeps of a hit."""

    text: str
    score: float


class LoadProcess:
    """Clients in a process of their own, whose Python slows nothing that they watch."""

    def __init__(self, answers: Path) -> None:
        self._file = answers.open()
        self._rest = ""
        self._answers: list[Answer] = []

    @classmethod
    @contextmanager
    def running(
        cls,
        folder: Path,
        questions: Sequence[str],
        clients: int,
        pause: float = 0.0,
        url: str = "",
        *,
        bare: bool = False,
    ) -> Iterator["LoadProcess"]:
        """Ask the live index of the environment's settings as long as the block lasts.

        Args:
            folder: For the questions and the answers.
            questions: Asked in turn.
            clients: So many at once.
            pause: Seconds that each client waits between two questions.
            url: Where the search service is; empty to ask in that process.
            bare: Whether to ask with the encoder and the bare client.

        Raises:
            subprocess.CalledProcessError: The process failed.
        """
        requested, answers = folder / "questions.txt", folder / "answers.jsonl"
        requested.write_text("\n".join(questions))
        answers.touch()
        command = [sys.executable, "-m", "bench.load", "--clients", str(clients)]
        command += ["--pause", str(pause)]
        command += ["--questions", str(requested), "--out", str(answers), "--url", url]
        command += ["--bare"] * bare
        process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[1])
        load = cls(answers)
        try:
            yield load
        finally:
            process.communicate()
            load.answers()
            load._file.close()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)

    def answers(self) -> list[Answer]:
        """Return all answers so far, those of a client in their order."""
        if not self._file.closed:
            *lines, self._rest = (self._rest + self._file.read()).split("\n")
            self._answers += [Answer(**json.loads(line)) for line in lines]
        return self._answers


@click.command()
@click.option("--questions", type=click.Path(path_type=Path), required=True, help="One a line.")
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--clients", default=4, show_default=True)
@click.option("--pause", default=0.0, show_default=True, help="Seconds between two questions.")
@click.option("--url", default="", help="Where the search service is; empty: search in process.")
@click.option("--bare", is_flag=True, help="Ask with the encoder and the bare client instead.")
def main(*, questions: Path, out: Path, clients: int, pause: float, url: str, bare: bool) -> None:
    """Ask the live index of the environment's settings until the standard input ends."""
    ended = threading.Thread(target=sys.stdin.read, daemon=True)
    ended.start()
    with SearchClient(url) if url else Searcher.open() as searcher, out.open("a") as file:
        search = Bare(searcher).search if bare else searcher.search
        load, written = Load(search, questions.read_text().splitlines(), pause), 0
        with load.running(clients):
            while ended.is_alive():
                ended.join(0.05)
                written += _write(load.answers[written:], file)
        _write(load.answers[written:], file)


def _write(answers: Sequence[Answer], file: TextIO) -> int:
    file.writelines(json.dumps(asdict(answer)) + "\n" for answer in answers)
    file.flush()
    return len(answers)


if __name__ == "__main__":
    main()
