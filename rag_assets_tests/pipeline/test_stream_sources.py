"""A stream over several sources: each has an intake of its own, which comes and goes with it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.adapters.source.sources import Sources
from rag_assets.core.sources.records import SourceRecords
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.pipeline.documents.parsing import DocumentParser
from rag_assets.pipeline.sources import records
from rag_assets.pipeline.sources.removals import remove_files
from rag_assets.pipeline.streaming.stream import Stream
from rag_assets_tests.support.pipeline import Pipeline, live_on
from rag_assets_tests.support.streaming import running_stream, stream_of
from rag_assets_tests.support.waiting import awaited

HOLIDAYS = "# Holidays\n\nEverybody has thirty days of holidays."


@dataclass
class Two:
    """The live platform of one source, and a second source beside it."""

    live: Pipeline
    hr: Path
    specs: dict[str, SourceSpec]

    def records(self) -> SourceRecords:
        return records.read_records(self.live.lake, self.specs, str(self.live.documents))

    def move(self, name: str) -> None:
        now = getattr(self.records(), name)("hr")
        records._write(self.live.lake, str(self.live.documents), lambda _: now)

    def stream(self) -> Stream:
        sources = Sources(self.specs, self.records())
        stream = stream_of(self.live)
        return replace(
            stream,
            sources=sources,
            parser=DocumentParser(sources, self.live.pool, 2, parser_version()),
            chunker=replace(stream.chunker, source_uri=sources.uri),
            update_sources=lambda: sources.update(self.specs, self.records()),
        )

    def found(self, document_id: str) -> list[str] | None:
        return self.live.indexed().get(document_id)


@pytest.fixture
def two(tmp_path: Path, milvus_lite: str) -> Iterator[Two]:
    with live_on(tmp_path, milvus_lite) as live:
        hr = tmp_path / "hr"
        hr.mkdir()
        specs = {
            "default": SourceSpec(url=str(live.documents)),
            "hr": SourceSpec(url=str(hr)),
        }
        added = records.read_records(live.lake, specs, str(live.documents)).add("hr", specs["hr"])
        records._write(live.lake, str(live.documents), lambda _: added)
        yield Two(live, hr, specs)


def test_changes_of_every_source_are_found_with_their_source_in_the_id(two: Two) -> None:
    two.live.embedder.embedded.clear()
    with running_stream(two.stream()):
        (two.hr / "3.md").write_text(HOLIDAYS)
        two.live.write("3.md", "# Edited\n\nOne new sentence.")
        awaited(lambda: two.found("hr//3.md") == [HOLIDAYS], "the document of hr")
        awaited(lambda: two.found("3.md") == ["# Edited\n\nOne new sentence."], "the other edit")

    assert sorted(two.live.embedder.embedded) == ["# Edited\n\nOne new sentence.", HOLIDAYS]


def test_a_source_that_fails_does_not_stop_the_stream_of_the_others(two: Two) -> None:
    (two.hr / "a.md").write_text(HOLIDAYS)
    with running_stream(two.stream()) as running:
        shutil.rmtree(two.hr)
        awaited(lambda: any("hr: " in said for said in running.said), "the failure to be told")
        two.live.write("3.md", "# Edited\n\nOne new sentence.")
        awaited(lambda: two.found("3.md") == ["# Edited\n\nOne new sentence."], "the other edit")
        two.hr.mkdir()
        awaited(lambda: _touched(two) and two.found("hr//b.md"), "hr to be followed again")


def _touched(two: Two) -> bool:
    (two.hr / "b.md").write_text(HOLIDAYS)
    return True


def test_a_source_that_is_removed_while_it_streams_is_gone_for_good(two: Two) -> None:
    with running_stream(two.stream()) as running:
        (two.hr / "a.md").write_text(HOLIDAYS)
        awaited(lambda: two.found("hr//a.md"), "the document of hr")

        two.move("remove")
        remove_files(two.live.lake, "hr", two.live.shards)
        (two.hr / "b.md").write_text(HOLIDAYS + " And one more.")
        awaited(lambda: two.found("hr//a.md") is None, "the document to be gone")
        awaited(lambda: "hr" not in running.stream._intakes, "the intake to end")
        two.live.write("3.md", "# Edited\n\nOne new sentence.")
        awaited(lambda: two.found("3.md") == ["# Edited\n\nOne new sentence."], "the other edit")

    assert [name for name in two.live.indexed() if name.startswith("hr//")] == []


def test_a_paused_source_is_not_followed_until_it_is_resumed(two: Two) -> None:
    two.move("pause")
    with running_stream(two.stream()) as running:
        (two.hr / "a.md").write_text(HOLIDAYS)
        two.live.write("3.md", "# Edited\n\nOne new sentence.")
        awaited(lambda: two.found("3.md") == ["# Edited\n\nOne new sentence."], "the other edit")
        assert two.found("hr//a.md") is None
        assert list(running.stream._intakes) == ["default"]

        two.move("resume")
        awaited(lambda: "hr" in running.stream._intakes, "hr to be followed")
        awaited(lambda: _touched(two) and two.found("hr//b.md"), "a change of hr")
