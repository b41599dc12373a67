"""Several sources over one lake, listed and parsed without Dagster; all but the stores is real."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.adapters.source.sources import Sources
from rag_assets.core.identity import shard_keys
from rag_assets.core.names import Asset
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.core.sources.turns import ListingState
from rag_assets.core.tables import PARSED_DOCUMENTS
from rag_assets.pipeline.documents.document_parser import DocumentParser
from rag_assets.pipeline.documents.parsing import parse_shard
from rag_assets.pipeline.sources.records import read_records
from rag_assets.pipeline.sources.stored_listings import read_files
from rag_assets.pipeline.sources.turns import Round, Turn, Turns

BOUND = "the sources of a lake"
SHARDS = shard_keys(2)


@dataclass
class Several:
    """Folders as sources, by name; a spec may be replaced by any other."""

    home: Path
    pool: ParserPool
    specs: dict[str, SourceSpec] = field(default_factory=dict)
    bound: str = BOUND
    states: Mapping[str, ListingState] = field(default_factory=dict)
    rounds: Round = field(default_factory=Round)
    seconds: float = 20.0
    objects: int = 1000

    def __post_init__(self) -> None:
        self.lake = Lake(open_object_store(str(self.home / "lake")))

    def folder(self, name: str) -> Path:
        """Declare a folder as a source, and return it."""
        path = self.home / name
        path.mkdir()
        self.specs[name] = SourceSpec(url=str(path))
        return path

    def sources(self) -> Sources:
        return Sources(self.specs, read_records(self.lake, self.specs, self.bound))

    def turns(self) -> list[Turn]:
        """Do what a tick does: the next listing is due, unless the previous one failed.

        However long listing takes on a busy machine, the same sources are listed.
        """
        now = time.time()
        states = {
            name: replace(state, due=now + state.interval if state.failures else 0.0)
            for name, state in self.states.items()
        }
        sources = self.sources()
        turns = Turns(
            self.lake, sources, SHARDS, self.objects, self.seconds, take_notifications=False
        )
        taken = self.rounds.run(turns, sources.active, states)
        self.states = {turn.source: turn.state for turn in taken}
        return taken

    def problems(self) -> dict[str, str]:
        """Take turns, and return the problems there are."""
        return {turn.source: turn.state.problem for turn in self.turns() if turn.state.problem}

    def retry(self) -> None:
        """Let the time pass for which sources that have failed are left alone."""
        self.states = {}

    def parse(self) -> int:
        """Parse what is stale; return the number of documents read."""
        parser = DocumentParser(self.sources(), self.pool, 2, parser_version())
        return sum(parse_shard(self.lake, parser, shard, 16)[0].parsed for shard in SHARDS)

    def listed(self) -> set[str]:
        return set(read_files(self.lake, SHARDS)["document_id"])

    def parsed(self) -> pl.DataFrame:
        keys = [PartitionKey(Asset.PARSED_DOCUMENTS, shard) for shard in SHARDS]
        return pl.concat([self.lake.read(key, PARSED_DOCUMENTS).table for key in keys])

    def texts(self) -> dict[str, str]:
        return dict(self.parsed().select("document_id", "markdown").rows())


@contextmanager
def several(home: Path) -> Iterator[Several]:
    with ParserPool(workers=1, timeout_seconds=30, memory_bytes=1_000_000_000) as pool:
        yield Several(home, pool)
