"""Some documents of a shard are parsed, and the shard stays stale by exactly the others."""

import threading
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import Lake, Meta, PartitionKey
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.core.documents.document import ParsedDocument
from rag_assets.core.identity import shard_keys
from rag_assets.core.names import Asset
from rag_assets.core.scheduling.lanes import StaleShard
from rag_assets.core.tables import PARSED_DOCUMENTS, SOURCE_FILES
from rag_assets.pipeline.documents.chunking import chunk_shard
from rag_assets.pipeline.documents.parsing import ParsingReport, parse_shard
from rag_assets.pipeline.staleness import read_metas, stale_documents
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline

[SHARD] = shard_keys(1)
KEY = PartitionKey(Asset.PARSED_DOCUMENTS, SHARD)
NAMES = [f"{number}.md" for number in range(6)]


@dataclass
class Documents:
    """Six documents of one shard, and which of them were parsed."""

    pipeline: Pipeline
    parsed: list[str] = field(default_factory=list)
    fails_after: int | None = None

    @property
    def lake(self) -> Lake:
        return self.pipeline.lake

    def edit(self, *names: str) -> None:
        for name in names:
            self.pipeline.write(name, document(f"edited {name}"))
        self.pipeline.list_all()

    def remove(self, *names: str) -> None:
        for name in names:
            self.pipeline.remove(name)
        self.pipeline.list_all()

    def parse(self, only: Set[str] | None = None, micro_batch: int = 16) -> ParsingReport:
        report, rows = parse_shard(self.lake, self.pipeline.parser(), SHARD, micro_batch, only)
        written = pl.col("document_id").is_in(rows["document_id"].to_list())
        assert rows.sort("document_id").equals(self.rows().filter(written))
        chunk_shard(self.lake, self.pipeline.chunker(), SHARD)
        return report

    def rows(self) -> pl.DataFrame:
        return self.lake.read(KEY, PARSED_DOCUMENTS).table

    def meta(self) -> Meta:
        found = self.lake.meta(KEY)
        assert found is not None
        return found

    def as_listed(self) -> set[str]:
        """Return the documents whose text is that of the listed version."""
        key = PartitionKey(Asset.SOURCE_FILES, SHARD)
        files = self.lake.read(key, SOURCE_FILES).table
        return set(self.rows().join(files, on=["document_id", "version"])["document_id"])

    def stale(self) -> list[StaleShard]:
        assets = (Asset.SOURCE_FILES, Asset.PARSED_DOCUMENTS, Asset.CHUNKS)
        parser, chunker = self.pipeline.parser(), self.pipeline.chunker()
        metas = read_metas(self.lake, assets)
        return stale_documents(metas, [SHARD], parser.version, chunker.version)

    def edits(self) -> int:
        """Return by how many documents the shard is stale; it need not be built as a whole."""
        stale = self.stale()
        assert not any(shard.whole for shard in stale)
        return sum(shard.edits for shard in stale)

    def checkpointed(self) -> list[str]:
        return sorted(self.lake.checkpoints.read(KEY, PARSED_DOCUMENTS)["document_id"])


@pytest.fixture
def documents(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Documents:
    created = Documents(replace(pipeline, shards=[SHARD]))
    for name in NAMES:
        pipeline.write(name, document(name))
    created.pipeline.list_all()
    created.parse()
    parse_all = pipeline.pool.parse_all

    def noting(read: Sequence[tuple[str, bytes]]) -> list[ParsedDocument]:
        if created.fails_after is not None and len(created.parsed) >= created.fails_after:
            raise InterruptedError
        created.parsed += [name for name, _ in read]
        return parse_all(read)

    monkeypatch.setattr(pipeline.pool, "parse_all", noting)
    return created


def test_only_the_named_document_is_parsed(documents: Documents) -> None:
    documents.edit("1.md", "2.md", "3.md")

    report = documents.parse({"2.md"})

    assert documents.parsed == ["2.md"]
    assert (report.parsed, report.documents) == (1, len(NAMES))
    assert documents.as_listed() == {*NAMES} - {"1.md", "3.md"}


def test_the_shard_stays_stale_by_exactly_the_others(documents: Documents) -> None:
    documents.edit("1.md", "2.md", "3.md", "new.md")
    assert documents.edits() == 4

    documents.parse({"2.md"})
    assert documents.edits() == 3

    documents.parse({"1.md", "new.md"})
    assert documents.edits() == 1

    documents.parse({"3.md"})
    assert documents.stale() == []


def test_what_changes_meanwhile_adds_to_the_others(documents: Documents) -> None:
    documents.edit("1.md", "2.md", "3.md")
    documents.parse({"2.md"})

    documents.edit("4.md")

    assert documents.edits() == 3


def test_a_later_parse_does_the_rest_and_nothing_twice(documents: Documents) -> None:
    documents.edit("1.md", "2.md", "3.md", "new.md")
    documents.parse({"2.md"})

    report = documents.parse()

    assert sorted(documents.parsed) == ["1.md", "2.md", "3.md", "new.md"]
    assert documents.parsed[0] == "2.md"
    assert (report.parsed, report.unchanged) == (3, 4)
    assert documents.as_listed() == {*NAMES, "new.md"}
    assert documents.stale() == []


def test_parsed_piece_by_piece_a_shard_is_what_it_is_parsed_at_once(
    documents: Documents, tmp_path: Path
) -> None:
    documents.edit("1.md", "2.md", "new.md")
    for name in ("new.md", "1.md", "2.md"):
        documents.parse({name})
    changes = documents.meta().changes

    at_once = replace(documents.pipeline, lake=Lake(open_object_store(str(tmp_path / "other"))))
    at_once.list_all()
    at_once.parse_and_chunk_all()

    assert documents.rows().drop("judged_at").equals(at_once.parsed().drop("judged_at"))
    meta = at_once.lake.meta(KEY)
    assert meta is not None
    assert documents.meta().data_version == meta.data_version
    assert changes == len(NAMES) + 3  # each change is counted once


def test_removed_documents_are_dropped_whatever_is_named(documents: Documents) -> None:
    documents.edit("1.md", "2.md")
    documents.remove("4.md", "5.md")

    report = documents.parse({"1.md"})

    assert report.removed == 2
    assert documents.rows()["document_id"].to_list() == ["0.md", "1.md", "2.md", "3.md"]
    assert documents.edits() == 1


@pytest.mark.parametrize("only", [set(), {"0.md"}, {"never.md"}])
def test_removed_documents_are_dropped_even_if_nothing_is_to_be_parsed(
    documents: Documents, only: set[str]
) -> None:
    documents.edit("1.md")
    documents.remove("4.md")

    report = documents.parse(only)

    assert documents.parsed == []
    assert (report.parsed, report.removed) == (0, 1)
    assert "4.md" not in documents.rows()["document_id"]
    assert documents.edits() == 1


def test_a_named_document_that_is_gone_by_now_is_dropped(documents: Documents) -> None:
    documents.edit("1.md")
    documents.remove("2.md")

    documents.parse({"2.md"})

    assert "2.md" not in documents.rows()["document_id"]
    assert documents.edits() == 1


def test_naming_what_is_in_sync_writes_nothing(documents: Documents) -> None:
    documents.edit("1.md", "2.md")
    documents.parse({"1.md"})
    token = documents.lake.token(KEY)

    for only in ({"0.md"}, {"1.md"}, set[str]()):
        documents.parse(only)

    assert documents.lake.token(KEY) == token
    assert documents.edits() == 1


def test_naming_all_that_changed_is_a_parse_of_the_shard(documents: Documents) -> None:
    documents.edit("1.md", "2.md")

    documents.parse({*NAMES})

    assert sorted(documents.parsed) == ["1.md", "2.md"]
    assert documents.stale() == []


def interrupted(documents: Documents, after: int) -> None:
    """Parse the whole shard, until the process is killed after so many documents."""
    documents.fails_after = after
    with pytest.raises(InterruptedError):
        documents.parse(micro_batch=1)
    documents.fails_after = None


def test_checkpoints_of_another_run_over_the_whole_shard_are_kept(documents: Documents) -> None:
    documents.edit("1.md", "2.md", "3.md", "4.md")
    interrupted(documents, after=2)
    finished = documents.checkpointed()
    assert len(finished) == 2
    [other, last] = sorted({"1.md", "2.md", "3.md", "4.md"} - set(finished))

    documents.parse({other})
    assert documents.checkpointed() == finished
    assert documents.edits() == 3

    report = documents.parse()
    assert (report.resumed, report.parsed) == (2, 1)
    assert documents.parsed == [*finished, other, last]
    assert documents.checkpointed() == []
    assert documents.stale() == []


def test_a_named_document_that_another_run_has_checkpointed_is_not_parsed_again(
    documents: Documents,
) -> None:
    documents.edit("1.md", "2.md", "3.md")
    interrupted(documents, after=2)
    [done, other] = documents.checkpointed()
    documents.parsed.clear()

    report = documents.parse({done})

    assert (report.resumed, report.parsed, documents.parsed) == (1, 0, [])
    assert documents.checkpointed() == [done, other]
    assert documents.edits() == 2


def test_several_that_parse_some_at_the_same_time_lose_nothing(documents: Documents) -> None:
    names = ["0.md", "1.md", "2.md", "3.md"]
    documents.edit(*names, "4.md", "5.md")
    failures: list[BaseException] = []

    def parse(name: str) -> None:
        try:
            parse_shard(documents.lake, documents.pipeline.parser(), SHARD, 16, {name})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=parse, args=[name]) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert documents.as_listed() == {*names}
    assert documents.edits() == 2
