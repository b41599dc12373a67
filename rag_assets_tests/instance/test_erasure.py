"""Dagster's storage has nothing of an erased document, on SQLite and on PostgreSQL."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.storage.event_log import SqliteEventLogStorage
from sqlalchemy import text

from rag_assets.core.erasure import ERASED, Traces
from rag_assets.instance.erasure import Storage
from rag_assets_tests.kubernetes.postgres import Postgres, postgres_server

ROOT = Path(__file__).parents[2]
SECRET = "mail/100% Wanda_\\ 'Ż' \"Zyblikiewicz\".md"  # what databases and JSON would escape
WORDS = ("Zyblikiewicz", "quokkafish")
QUOTE = f"{SECRET} has a quokkafish"
ROWS = dg.TableSchema([dg.TableColumn("document_id"), dg.TableColumn("title")])


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """A database server, in a folder that its own user can reach."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        with postgres_server(folder / "server") as server:
            yield server


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def instance(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    if request.param == "postgres":
        server = request.getfixturevalue("postgres")
        address = {"hostname": "127.0.0.1", "port": server.port, "db_name": "dagster"}
        login = {"username": "dagster", "password": server.password}
        storage = {"storage": {"postgres": {"postgres_db": address | login}}}
        (home / "dagster.yaml").write_text(yaml.safe_dump(storage))
    with dg.DagsterInstance.from_config(str(home)) as created:
        yield created
        created.wipe()


def table(*names: str) -> dg.TableMetadataValue:
    return dg.MetadataValue.table(
        [dg.TableRecord({"document_id": name, "title": f"About {name}"}) for name in names], ROWS
    )


@dg.op(out={})
def write(context: dg.OpExecutionContext) -> Iterator[dg.AssetMaterialization]:
    context.log.info(f"Reading {SECRET}: the quokkafish")
    context.log.info("Something else")
    print(f"{SECRET} is read")
    yield dg.AssetMaterialization(
        "chunks",
        partition="s001",
        metadata={
            "rows": 3,
            "preview": dg.MetadataValue.md(f"`{SECRET}`, chunk 0\n\n    quokkafish"),
            "lags": table(SECRET, "other.md"),
        },
        tags={"dagster/data_version": "v1"},
    )


@dg.job(executor_def=dg.in_process_executor)
def writing() -> None:
    write()


@dg.op
def fail() -> None:
    raise ValueError(QUOTE)


@dg.job(executor_def=dg.in_process_executor)
def failing() -> None:
    fail()


@pytest.fixture
def run_id(instance: dg.DagsterInstance) -> str:
    """A run, and other things, that name the document."""
    tags = {"rag_assets/reason": f"retried {SECRET}"}
    result = writing.execute_in_process(instance=instance, tags=tags)
    failing.execute_in_process(instance=instance, raise_on_error=False)
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey("chunks"),
            check_name="quarantine",
            passed=False,
            metadata={"documents": table(SECRET, "other.md")},
            description=f"{SECRET} is quarantined",
        )
    )
    instance.daemon_cursor_storage.set_cursor_values({"sensor": f"after {SECRET}"})
    return result.run_id


def storage(instance: dg.DagsterInstance, *folders: Path) -> Storage:
    return Storage(instance, Traces.of([SECRET]), folders)


def left(one: Storage) -> dict[str, int]:
    return {look.place: look.found for look in one.look() if look.found}


def test_texts_that_name_a_document_are_replaced_wherever_they_are(
    instance: dg.DagsterInstance, run_id: str
) -> None:
    one = storage(instance)
    assert {"Dagster: event_logs", "Dagster: asset_check_executions", "Dagster: kvs"} <= left(
        one
    ).keys()

    erased = {look.place: look.found for look in one.erase() if look.found}

    assert erased["Dagster: event_logs"] >= 3
    assert erased["Dagster: captured output"] >= 1
    assert left(one) == {}
    log = [entry.user_message for entry in instance.all_logs(run_id)]
    assert "Something else" in log
    assert not any(word in str(entry) for word in WORDS for entry in instance.all_logs(run_id))


@pytest.mark.usefixtures("run_id")
def test_the_rest_of_an_event_stays_as_it_was(instance: dg.DagsterInstance) -> None:
    key = dg.AssetKey("chunks")
    before = instance.get_latest_materialization_event(key)

    storage(instance).erase()

    after = instance.get_latest_materialization_event(key)
    assert before is not None
    assert after is not None
    assert (after.run_id, after.timestamp) == (before.run_id, before.timestamp)
    event = after.asset_materialization
    assert event is not None
    assert (event.partition, event.tags) == ("s001", before.asset_materialization.tags)  # type: ignore[union-attr]
    assert event.metadata["rows"].value == 3
    assert event.metadata["preview"].value == ERASED
    lags = event.metadata["lags"]
    assert isinstance(lags, dg.TableMetadataValue)
    assert [row.data["document_id"] for row in lags.records] == ["other.md"]
    assert instance.get_materialized_partitions(key) == {"s001"}


def test_no_byte_of_it_is_left_in_the_files_of_sqlite(
    instance: dg.DagsterInstance, run_id: str
) -> None:
    if not isinstance(instance.event_log_storage, SqliteEventLogStorage):
        assert any("VACUUM FULL" in sentence for sentence in storage(instance).not_shown)
        return
    instance.delete_run(writing.execute_in_process(instance=instance).run_id)
    home = Path(instance.root_directory)
    assert files_with(home)

    storage(instance).erase()

    assert files_with(home) == []
    assert run_id in {run.run_id for run in instance.get_runs()}


def files_with(home: Path) -> list[Path]:
    files = [path for path in home.rglob("*") if path.is_file()]
    return [path for path in files if any(word.encode() in path.read_bytes() for word in WORDS)]


@pytest.mark.usefixtures("run_id")
def test_erasing_again_changes_nothing(instance: dg.DagsterInstance) -> None:
    storage(instance).erase()
    before = rows(instance)

    assert not any(look.found for look in storage(instance).erase())

    assert rows(instance) == before


def rows(instance: dg.DagsterInstance) -> list[tuple[object, ...]]:
    log = instance.event_log_storage
    with log.index_connection() as connection:  # type: ignore[attr-defined]
        return [tuple(row) for row in connection.execute(text("select id, event from event_logs"))]


def test_logs_are_overwritten_in_place_because_processes_write_them(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    log = tmp_path / "logs" / "dagster.log"
    log.parent.mkdir()
    with log.open("w") as writing_process:
        writing_process.write(f"one\nread {SECRET}\n")
        writing_process.flush()

        storage(instance, log.parent).erase()

        writing_process.write("two\n")
    assert log.read_text() == f"one\n{'#' * len(f'read {SECRET}'.encode())}\ntwo\n"


def test_other_runs_in_progress_are_counted(instance: dg.DagsterInstance, run_id: str) -> None:
    one = storage(instance)
    assert one.concurrent_runs(run_id) == 0

    other = instance.create_run_for_job(writing, status=dg.DagsterRunStatus.STARTED)

    assert one.concurrent_runs(run_id) == 1
    assert one.concurrent_runs(other.run_id) == 0
