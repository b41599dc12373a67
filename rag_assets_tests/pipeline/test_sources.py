"""Several sources: each one's documents, errors, changes and end are its own."""

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import Meta
from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.sources import Sources
from rag_assets.core.documents.document import Outcome
from rag_assets.core.errors import ConfigurationError, SourceUnavailableError
from rag_assets.core.reports.listing import together
from rag_assets.core.sources.records import SourceRecords, SourceState
from rag_assets.core.sources.removals import RemovalPolicy
from rag_assets.core.sources.spec import SourceSpec
from rag_assets.core.tables import DOUBTS
from rag_assets.defs.resources import PrivacyResource
from rag_assets.pipeline.sources import records, turns
from rag_assets.pipeline.sources.doubt import DOUBT, read_doubts, record_doubt
from rag_assets.pipeline.sources.listing import list_source
from rag_assets.pipeline.sources.removals import remove_files
from rag_assets_tests.support.s3_proxy import HTML, Fault, S3Proxy, faulty_bucket, proxy
from rag_assets_tests.support.s3_server import Bucket
from rag_assets_tests.support.several import SHARDS, Several, several
from rag_assets_tests.support.waiting import awaited

__all__ = ["faulty_bucket", "proxy"]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Several]:
    with several(tmp_path) as created:
        yield created


@pytest.fixture
def two(platform: Several) -> Several:
    """Two folders, of which each has a document a.md."""
    for name in ("hr", "wiki"):
        (platform.folder(name) / "a.md").write_text(f"# Of {name}\n")
    platform.turns()
    platform.parse()
    return platform


def change(platform: Several, name: str, text: str = "# Edited\n") -> None:
    (platform.home / name / "a.md").write_text(text)


def record(platform: Several, move: str, name: str) -> None:
    def moved(now: SourceRecords | None) -> SourceRecords:
        assert now is not None
        result: SourceRecords = getattr(now, move)(name)
        return result

    records._write(platform.lake, platform.bound, moved)


def test_equal_keys_of_two_sources_are_two_documents(two: Several) -> None:
    assert two.listed() == {"hr//a.md", "wiki//a.md"}
    assert two.texts() == {"hr//a.md": "# Of hr", "wiki//a.md": "# Of wiki"}
    assert two.sources().uri("hr//a.md") == (two.home / "hr/a.md").as_uri()


def test_an_edit_in_one_source_parses_nothing_of_the_other(two: Several) -> None:
    change(two, "hr")

    two.turns()

    assert two.parse() == 1
    assert two.texts() == {"hr//a.md": "# Edited", "wiki//a.md": "# Of wiki"}


def test_a_lake_of_one_source_gains_sources_without_parsing_anything_again(
    platform: Several,
) -> None:
    (platform.folder("default") / "a.md").write_text("# One\n")
    platform.bound = platform.specs["default"].url
    platform.turns()
    platform.parse()
    (platform.folder("hr") / "a.md").write_text("# Two\n")

    platform.turns()
    assert (platform.listed(), platform.parse()) == ({"a.md"}, 0)
    spec = platform.specs["hr"]
    known = platform.sources().records
    records._write(platform.lake, platform.bound, lambda _: known.add("hr", spec))
    platform.turns()

    assert platform.parse() == 1
    assert platform.texts() == {"a.md": "# One", "hr//a.md": "# Two"}


def fail_by_a_missing_folder(platform: Several) -> None:
    shutil.rmtree(platform.home / "hr")


def fail_by_a_variable_that_is_not_set(platform: Several) -> None:
    spec = platform.specs["hr"]
    platform.specs["hr"] = spec.model_copy(update={"options": {"key": "${NOT_SET}"}})


def fail_by_another_url(platform: Several) -> None:
    platform.specs["hr"] = platform.specs["hr"].model_copy(update={"url": str(platform.home)})


def fail_by_not_being_declared(platform: Several) -> None:
    del platform.specs["hr"]


@pytest.mark.parametrize(
    ("fail", "reason"),
    [
        (fail_by_a_missing_folder, "hr does not exist"),
        (fail_by_a_variable_that_is_not_set, "NOT_SET"),
        (fail_by_another_url, "was added with the URL"),
        (fail_by_not_being_declared, "is not declared any more"),
    ],
)
def test_a_source_that_fails_holds_up_no_other_and_its_documents_stay(
    two: Several, fail: object, reason: str
) -> None:
    change(two, "wiki")
    fail(two)  # type: ignore[operator]

    problems = two.problems()

    assert list(problems) == ["hr"]
    assert reason in problems["hr"]
    assert two.parse() == 1
    assert two.texts() == {"hr//a.md": "# Of hr", "wiki//a.md": "# Edited"}


def test_html_instead_of_a_listing_holds_up_no_other_source(
    platform: Several, faulty_bucket: Bucket, proxy: S3Proxy
) -> None:
    faulty_bucket.put("docs/a.md", b"# Of the bucket\n")
    url, options = f"{faulty_bucket.url}/docs", faulty_bucket.options
    platform.specs["hr"] = SourceSpec(url=url, options=options)
    (platform.folder("wiki") / "a.md").write_text("# Of wiki\n")
    platform.turns()
    platform.parse()
    proxy.add(Fault(path="list-type", body=HTML))
    change(platform, "wiki")

    assert "perhaps a login" in platform.problems()["hr"]

    platform.parse()
    assert platform.texts() == {"hr//a.md": "# Of the bucket", "wiki//a.md": "# Edited"}


def test_a_source_that_returns_is_listed_again(two: Several) -> None:
    moved = two.home / "away"
    shutil.move(two.home / "hr", moved)
    assert two.problems()
    shutil.move(moved, two.home / "hr")
    change(two, "hr")
    assert two.problems()  # it is left alone for a while

    two.retry()

    assert not two.problems()
    assert two.parse() == 1


def test_documents_of_a_source_that_is_down_keep_their_text_and_are_read_later(
    two: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(two, "hr")
    change(two, "wiki")
    two.turns()

    def read_all(self: Source, ids: list[str]) -> object:
        if self.name == "hr":
            raise SourceUnavailableError("The bucket does not respond.")
        return original(self, ids)

    original = Source.read_all
    with monkeypatch.context() as patched:
        patched.setattr(Source, "read_all", read_all)
        two.parse()
    [down] = two.parsed().filter(document_id="hr//a.md").to_dicts()

    assert two.texts() == {"hr//a.md": "# Of hr", "wiki//a.md": "# Edited"}
    assert down["unreadable"] == "The bucket does not respond."
    assert down["retry_at"] is not None


def test_a_source_that_is_down_is_asked_once_and_not_for_every_batch(
    two: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read_all(self: Source, _: list[str]) -> object:
        asked.append(self.name)
        raise SourceUnavailableError("The bucket does not respond.")

    monkeypatch.setattr(Source, "read_all", read_all)
    sources = two.sources()
    for _ in range(3):
        assert list(sources.read_all(["hr//a.md"])) == ["hr//a.md"]

    assert asked == ["hr"]


def test_the_error_of_an_only_source_is_raised(platform: Several) -> None:
    platform.folder("default")
    platform.bound = platform.specs["default"].url
    shutil.rmtree(platform.home / "default")

    with pytest.raises(Exception, match="does not exist"):
        platform.turns()


def test_a_source_that_does_not_answer_is_waited_for_once(
    two: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "ANSWER_SECONDS", 0.2)
    two.seconds, answer, take = 0.0, threading.Event(), turns.Turns.take

    def hang(self: turns.Turns, name: str, state: object) -> turns.Turn:
        if name == "hr":
            answer.wait(30)
        return take(self, name, state)  # type: ignore[arg-type]

    monkeypatch.setattr(turns.Turns, "take", hang)
    change(two, "hr")
    change(two, "wiki")
    hanging = two.rounds
    awaited(lambda: two.turns() and late(two) == ["hr"], "wiki to be listed")

    assert two.parse() == 1
    two.turns()
    assert (late(two), len(hanging._late)) == (["hr"], 1)
    answer.set()
    two.seconds = 20.0
    awaited(lambda: two.turns() and not late(two), "hr to answer")
    assert two.parse() == 1


def late(platform: Several) -> list[str]:
    return [name for name, state in platform.states.items() if state.late]


def test_a_mass_removal_is_doubted_by_source(platform: Several) -> None:
    for name in ("hr", "wiki"):
        folder = platform.folder(name)
        for number in range(4):
            (folder / f"{number}.md").write_text(f"# {number}\n")
    limited = {"max_removal_documents": 1}
    platform.specs["hr"] = platform.specs["hr"].model_copy(update=limited)
    platform.turns()
    for name in ("hr", "wiki"):
        for number in range(3):
            (platform.home / name / f"{number}.md").unlink()

    platform.turns()

    [doubt] = read_doubts(platform.lake).values()
    assert (doubt.source, doubt.documents, doubt.listed) == ("hr", 3, 4)
    assert "from the source hr since" in doubt.sentence
    assert platform.listed() == {"wiki//3.md", *(f"hr//{number}.md" for number in range(4))}


def test_doubts_of_two_sources_are_kept_apart(two: Several) -> None:
    source, policy = two.sources().source("hr"), RemovalPolicy(0, 0)
    (two.home / "hr" / "a.md").unlink()
    doubt = list_source(two.lake, source, SHARDS, SHARDS, policy=policy).doubt
    assert doubt is not None

    assert record_doubt(two.lake, replace(doubt, source="wiki"), "wiki")
    assert record_doubt(two.lake, None, "hr")

    assert list(read_doubts(two.lake)) == ["wiki"]


def test_a_paused_source_is_not_listed_and_its_documents_stay(two: Several) -> None:
    record(two, "pause", "hr")
    change(two, "hr")

    assert [turn.source for turn in two.turns()] == ["wiki"]
    assert two.listed() == {"hr//a.md", "wiki//a.md"}
    record(two, "resume", "hr")
    two.turns()
    assert two.parse() == 1


def test_a_removed_source_is_gone_without_a_doubt(two: Several) -> None:
    record(two, "remove", "hr")

    remove_files(two.lake, "hr", SHARDS)
    two.parse()

    assert two.listed() == {"wiki//a.md"}
    assert list(two.texts()) == ["wiki//a.md"]
    assert read_doubts(two.lake) == {}
    assert [turn.source for turn in two.turns()] == ["wiki"]


def test_a_source_that_is_removed_while_it_is_listed_leaves_nothing(
    two: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    (two.home / "hr" / "new.md").write_text("# New\n")
    listing = Source.listing

    def remove_meanwhile(self: Source, *arguments: object) -> object:
        found = listing(self, *arguments)  # type: ignore[arg-type]
        if self.name == "hr" and two.sources().records.state("hr") is SourceState.ACTIVE:
            record(two, "remove", "hr")
            remove_files(two.lake, "hr", SHARDS)
        return found

    monkeypatch.setattr(Source, "listing", remove_meanwhile)
    two.turns()

    assert two.listed() == {"wiki//a.md"}


def test_what_another_source_commits_meanwhile_repeats_no_listing(
    two: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("hr", "wiki"):
        for number in range(8):
            (two.home / name / f"{number}.md").write_text(f"# {number}\n")
    sources, listing, listed = two.sources(), Source.listing, []

    def other_commits(self: Source, *arguments: object) -> object:
        listed.append(self.name)
        found = listing(self, *arguments)  # type: ignore[arg-type]
        if self.name == "hr":
            list_source(two.lake, sources.source("wiki"), SHARDS, SHARDS)
        return found

    monkeypatch.setattr(Source, "listing", other_commits)
    result = list_source(two.lake, sources.source("hr"), SHARDS, SHARDS)

    assert listed == ["hr", "wiki"]
    assert len(result.added) == 8
    assert len(two.listed()) == 18


def test_a_listing_that_its_own_source_has_overtaken_is_repeated(
    two: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, listing = two.sources().source("hr"), Source.listing
    once = ["there for a moment"]

    def overtaken(self: Source, *arguments: object) -> object:
        if not once:
            return listing(self, *arguments)  # type: ignore[arg-type]
        path = two.home / "hr" / f"{once.pop()}.md"
        path.write_text("# Gone soon\n")
        found = listing(self, *arguments)  # type: ignore[arg-type]
        list_source(two.lake, source, SHARDS, SHARDS)
        path.unlink()
        list_source(two.lake, source, SHARDS, SHARDS)  # the rows are what they were
        return found

    monkeypatch.setattr(Source, "listing", overtaken)
    list_source(two.lake, source, SHARDS, SHARDS)

    assert two.listed() == {"hr//a.md", "wiki//a.md"}


def test_reports_of_several_listings_add_up(two: Several) -> None:
    for name in ("hr", "wiki"):
        (two.home / name / "b.md").write_text("# B\n")
    results = [
        list_source(two.lake, two.sources().source(name), SHARDS, SHARDS) for name in ("hr", "wiki")
    ]

    reports = together(results).values()

    assert [result.documents for result in results] == [2, 2]
    assert sum(report.added for report in reports) == 2
    assert sum(report.documents for report in reports) == 4


def test_previews_show_nothing_of_a_source_that_has_none(tmp_path: Path) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text("sources: {hr: {url: /hr, previews: false}, wiki: {url: /wiki}}")
    shows = PrivacyResource(previews=True, sources_file=str(file), home="").shows

    assert [shows(i) for i in ("hr//a.md", "wiki//a.md", "gone//a.md")] == [False, True, False]


def test_a_changed_declaration_opens_the_source_anew(two: Several) -> None:
    sources = two.sources()
    before = {name: sources.source(name) for name in ("hr", "wiki")}
    small = two.specs["hr"].model_copy(update={"max_document_bytes": 1})

    sources.update({**two.specs, "hr": small}, sources.records)

    assert sources.source("wiki") is before["wiki"]
    assert sources.source("hr") is not before["hr"]
    with pytest.raises(ConfigurationError, match="no source 'x' in the sources file"):
        Sources({}, SourceRecords({})).source("x")


def test_an_unreadable_object_of_one_source_is_one_row(two: Several) -> None:
    (two.home / "hr" / "broken.pdf").write_bytes(b"%PDF-1.7\nno document")

    two.turns()
    two.parse()

    outcomes = dict(two.parsed().select("document_id", "outcome").rows())
    assert outcomes["hr//a.md"] == outcomes["wiki//a.md"] == Outcome.PARSED
    assert outcomes["hr//broken.pdf"] != Outcome.PARSED


def test_a_named_source_is_listed_in_windows_of_its_keys(
    two: Several, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rag_assets.adapters.source.interface.PAGE", 2)
    two.objects = 2
    for number in range(5):
        (two.home / "hr" / f"{number}.md").write_text(f"# {number}\n")

    afters = []
    for _ in range(4):
        two.turns()
        afters.append(two.states["hr"].after)
    assert afters == ["1.md", "3.md", "a.md", ""]
    assert two.listed() == {"hr//a.md", "wiki//a.md", *(f"hr//{number}.md" for number in range(5))}
    (two.home / "hr" / "0.md").unlink()
    (two.home / "hr" / "4.md").unlink()
    for _ in range(3):
        two.turns()

    assert two.listed() == {"hr//a.md", "wiki//a.md", "hr//1.md", "hr//2.md", "hr//3.md"}


def test_a_doubt_of_an_earlier_release_is_that_of_the_default_source(platform: Several) -> None:
    earlier = {name: dtype for name, dtype in DOUBTS.items() if name != "source"}
    row = (3, 0, 4, datetime(2026, 1, 1, tzinfo=UTC), "digest")
    table = pl.DataFrame([row], schema=earlier, orient="row")
    platform.lake.commit(DOUBT, table, Meta("", ""), None)

    [(name, doubt)] = read_doubts(platform.lake).items()

    assert (name, doubt.source, doubt.documents) == ("default", "default", 3)
    assert "from the source since" in doubt.sentence
