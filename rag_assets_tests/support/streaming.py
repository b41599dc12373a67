"""A stream over a `Pipeline`, without Dagster, with what it has done."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rag_assets.adapters.source.feeds import ChangeFeed, FolderFeed
from rag_assets.core.scheduling.lanes import InFlight
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.pipeline.streaming.outcomes import Batch, Outcome, Written
from rag_assets.pipeline.streaming.stream import Limits, Stream
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.waiting import awaited

LIMITS = Limits(
    documents=5,
    chunks=100,
    look_seconds=0.5,
    micro_batch=16,
    retries=RetryPolicy(initial_delay=0.2, max_delay=1),
)


@dataclass
class Streaming:
    """A running stream and its outcomes so far."""

    stream: Stream
    outcomes: list[Outcome] = field(default_factory=list)
    failure: BaseException | None = None

    def read(self) -> None:
        try:
            for outcome in self.stream.outcomes():
                self.outcomes.append(outcome)
                if self.stream.stop.is_set():
                    return
        except BaseException as error:
            self.failure = error

    @property
    def written(self) -> list[Written]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Written)]

    @property
    def said(self) -> list[str]:
        return [o.sentence for o in self.outcomes if isinstance(o, Batch) and o.sentence]


def feed_of(pipeline: Pipeline) -> ChangeFeed:
    return FolderFeed(pipeline.documents)


@contextmanager
def streaming(
    *models: Pipeline,
    feed: ChangeFeed | None = None,
    limits: Limits = LIMITS,
    in_flight: Sequence[InFlight] = (),
) -> Iterator[Streaming]:
    """Stream to the collections of some models of one platform."""
    stream = stream_of(*models, limits=limits, in_flight=in_flight)
    stream.open_feed = lambda _: feed
    with running_stream(stream) as running:
        yield running


def stream_of(
    *models: Pipeline, limits: Limits = LIMITS, in_flight: Sequence[InFlight] = ()
) -> Stream:
    first = models[0]
    return Stream(
        lake=first.lake,
        sources=first.sources,
        shards=first.shards,
        parser=first.parser(),
        chunker=first.chunker(),
        targets=lambda: [model.model_run() for model in models],
        in_flight=lambda _: in_flight,
        limits=limits,
    )


@contextmanager
def running_stream(stream: Stream) -> Iterator[Streaming]:
    """Run a stream, and expect it not to fail."""
    running = Streaming(stream)
    reader = threading.Thread(target=running.read)
    with stream:
        reader.start()
        awaited(lambda: running.outcomes or running.failure, "the stream's first look")
        yield running
    reader.join()
    running.outcomes += stream.finished()
    assert running.failure is None, running.failure
