"""`rag-assets erase`: one command from a question to a certificate."""

import io
import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest
from click.testing import CliRunner, Result

from rag_assets.cli import ingestion
from rag_assets.cli.ingestion import run_job, run_step
from rag_assets.cli.main import main
from rag_assets.core.errors import SourceUnavailableError
from rag_assets.core.names import Asset, Job
from rag_assets.defs.resources import IndexResource, resolved
from rag_assets.pipeline.upkeep.erasure_records import request, requested
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.support.filled import Fillings, by_command, fillings

__all__ = ["fillings"]

SECRET = "Wanda Zyblikiewicz.md"  # its name is in its text, as the fillings write it
WORD = "Zyblikiewicz"
DIGEST = blake2b(SECRET.encode(), digest_size=16).hexdigest()


@pytest.fixture
def ingested(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Three documents, of which one is to be erased, after all checks have looked at them."""
    fillings("0.md", "1.md", "broken.pdf", SECRET, fill=by_command).restored(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    run_job(Job.RUN_CHECKS)
    return load_settings()


def erase(*arguments: str, answers: str = "") -> Result:
    return CliRunner().invoke(main, ["erase", *arguments], input=answers)


def remove(settings: Settings, name: str) -> None:
    (settings.home / "documents" / name).unlink()


def decoded(path: Path) -> Iterator[str]:
    """Yield the bytes of a file, and the rows of a Parquet file, as text."""
    data = path.read_bytes()
    yield data.decode("latin-1")
    if data.startswith(b"PAR1"):
        yield from map(repr, pl.read_parquet(io.BytesIO(data)).iter_rows())


def files_with(settings: Settings, word: str) -> list[str]:
    """Return the files of the platform in which a word is."""
    return [
        str(path.relative_to(settings.home))
        for path in settings.home.rglob("*")
        if path.is_file() and (word in str(path) or any(word in text for text in decoded(path)))
    ]


def certificate() -> dict[str, dg.MetadataValue]:  # type: ignore[type-arg]
    with dg.DagsterInstance.get() as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(Asset.ERASURES))
        assert event is not None
        assert event.asset_materialization is not None
        return dict(event.asset_materialization.metadata)


def test_nothing_of_a_document_is_left_in_lake_dagster_and_logs(ingested: Settings) -> None:
    remove(ingested, SECRET)
    before = files_with(ingested, WORD)
    assert any(path.startswith("lake/parts/chunks") for path in before)
    assert any(path.startswith("dagster/history/runs") for path in before)

    result = erase(SECRET, answers="y\n")

    assert result.exit_code == 0, result.output
    assert files_with(ingested, WORD) == []
    shown = certificate()
    assert (shown["rag_assets/left"].value, shown["rag_assets/documents"].value) == (0, 1)
    assert shown["rag_assets/found"].value > 5
    text = json.dumps(shown["rag_assets/certificate"].value, sort_keys=True, separators=(",", ":"))
    digest = blake2b(text.encode(), digest_size=16).hexdigest()
    assert digest == shown["rag_assets/digest"].value
    assert json.loads(text)["documents"] == [DIGEST]
    assert digest in result.output
    assert "Not shown: Whether" in result.output  # Milvus Lite compacts by itself
    assert (ingested.home / "lake" / Asset.ERASURES / f"{digest}.parquet").exists()


def test_what_is_found_is_shown_before_anything_is_erased(ingested: Settings) -> None:
    remove(ingested, SECRET)
    before = files_with(ingested, WORD)

    result = erase(SECRET, answers="n\n")

    assert result.exit_code == 1
    assert "Erase 1 documents for good?" in result.output
    assert "lake: chunks" in result.output
    assert files_with(ingested, WORD) == before


def test_a_quarantined_document_is_erased_from_the_checks(ingested: Settings) -> None:
    remove(ingested, "broken.pdf")

    assert erase("broken.pdf", "--yes").exit_code == 0

    assert files_with(ingested, "broken.pdf") == []


def test_erasing_twice_gives_a_second_certificate_of_nothing_found(ingested: Settings) -> None:
    remove(ingested, SECRET)
    erase(SECRET, "--yes")

    assert erase(SECRET, "--yes").exit_code == 0

    assert certificate()["rag_assets/found"].value == 0


def test_a_document_in_the_source_is_refused_and_named(ingested: Settings) -> None:
    result = erase(SECRET, "--yes")

    assert result.exit_code == 1
    assert f"'{SECRET}' is still in the source. Delete it there first" in result.output
    assert files_with(ingested, WORD)


def test_a_request_is_completed_by_the_next_run_without_what_has_returned(
    ingested: Settings,
) -> None:
    with resolved(ingested, IndexResource).open() as index:
        request(index.lake, {SECRET, "0.md"})
        remove(ingested, SECRET)

        _, error = run_step(Job.ERASE_DOCUMENTS, {})

        assert error == ""
        assert requested(index.lake) == frozenset()
    assert files_with(ingested, WORD) == []
    assert files_with(ingested, "0.md")


def test_an_error_that_names_the_document_is_not_kept(
    ingested: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove(ingested, SECRET)
    look_up = "rag_assets.adapters.source.source.Source.look_up"
    looks = iter(["answered"])  # of the command itself

    def answer(*arguments: Any) -> pl.DataFrame:
        if next(looks, None):
            return arguments[-1].clear()
        raise SourceUnavailableError(f"Cannot read file:///documents/{SECRET}: it is away.")

    monkeypatch.setattr(look_up, answer)

    result = erase(SECRET, "--yes")

    assert result.exit_code == 1
    assert "SourceUnavailableError: Cannot read file:///documents/[erased]" in result.output
    with dg.DagsterInstance.get() as instance:
        [run] = instance.get_runs(dg.RunsFilter(job_name=Job.ERASE_DOCUMENTS))
        assert not any(WORD in str(entry) for entry in instance.all_logs(run.run_id))
        assert WORD not in str(run)
    with ingestion.open_erasure(ingested, frozenset()) as one:
        assert requested(one.lake) == {SECRET}  # the next run of the job completes it
