"""With its connections kept, the event log is what it is without, for everybody, and costs less."""

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import DATA_VERSION_TAG
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite import sqlite_event_log

from rag_assets.instance import event_storage
from rag_assets.instance.event_storage import connections_kept

ROOT = Path(__file__).parents[2]
INDEXED = "dagster/partition/shard"  # by which Dagster finds materialisations
ASSETS = [dg.AssetKey("chunks"), dg.AssetKey(["source", "files"])]

Keeping = Callable[[dg.DagsterInstance], AbstractContextManager[None]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    created = tmp_path / "home"
    created.mkdir()
    shutil.copy(ROOT / "dagster.yaml", created)
    return created


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home)) as created:
        assert isinstance(created.event_log_storage, SqliteEventLogStorage)
        yield created


@dg.op(out={})
def write(context: dg.OpExecutionContext) -> Iterator[dg.AssetMaterialization]:
    context.log.info("before")
    for number, key in enumerate(ASSETS):
        yield dg.AssetMaterialization(
            key,
            partition=f"s{number}",
            metadata={"rows": number},
            tags={DATA_VERSION_TAG: f"v{number}", INDEXED: f"s{number}"},
        )
    context.log.warning("after")


@dg.job(executor_def=dg.in_process_executor)
def writing() -> None:
    write()


def report(instance: dg.DagsterInstance, partition: str) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization("chunks", partition=partition))


def run(instance: dg.DagsterInstance) -> str:
    result = writing.execute_in_process(instance=instance)
    assert result.success
    return result.run_id


def log_of(instance: dg.DagsterInstance, run_id: str) -> list[tuple[Any, ...]]:
    """Return what the log of a run holds, without what differs from run to run."""
    return [
        (
            entry.level,
            entry.dagster_event_type,
            entry.step_key,
            entry.user_message.replace(run_id, "RUN") if not entry.is_dagster_event else "",
            entry.asset_materialization,
        )
        for entry in instance.all_logs(run_id)
    ]


def materialised(instance: dg.DagsterInstance) -> list[tuple[Any, ...]]:
    """Return what the log holds of the assets, over all runs."""
    storage = instance.event_log_storage
    found: list[tuple[Any, ...]] = []
    for key in ASSETS:
        records = instance.fetch_materializations(key, limit=100).records
        found += [(record.partition_key, record.asset_materialization) for record in records]
        tags = storage.get_event_tags_for_asset(key)
        found += [sorted(one.items()) for one in tags]
        found += [sorted(instance.get_materialized_partitions(key)), storage.has_asset_key(key)]
    [last] = instance.get_asset_records([ASSETS[0]])
    newest = last.asset_entry.last_materialization
    return [*found, newest.asset_materialization if newest else None]


def by_itself(_: dg.DagsterInstance) -> AbstractContextManager[None]:
    return nullcontext()


def test_a_run_logs_and_reads_what_it_does_without(tmp_path: Path) -> None:
    found = {}
    for name, keeping in {"kept": connections_kept, "by itself": by_itself}.items():
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / "dagster.yaml", tmp_path / name)
        with dg.DagsterInstance.from_config(str(tmp_path / name)) as instance:
            with keeping(instance):
                run_id = run(instance)
                inside = log_of(instance, run_id), materialised(instance)
            assert (log_of(instance, run_id), materialised(instance)) == inside
        found[name] = inside

    assert found["kept"] == found["by itself"]
    log, _ = found["kept"]
    assert [text for _, _, _, text, _ in log if text in ("before", "after")] == ["before", "after"]
    assert sum(materialisation is not None for *_, materialisation in log) == len(ASSETS)


def test_tags_of_a_materialisation_are_stored_and_found(instance: dg.DagsterInstance) -> None:
    with connections_kept(instance):
        run(instance)

        found = instance.event_log_storage.get_event_tags_for_asset(ASSETS[1], {INDEXED: "s1"})
        last = instance.get_latest_materialization_event(ASSETS[1])

    assert found == [{INDEXED: "s1", DATA_VERSION_TAG: "v1"}]
    assert last is not None
    assert last.asset_materialization is not None
    tags = last.asset_materialization.tags or {}
    assert (tags[DATA_VERSION_TAG], tags[INDEXED]) == ("v1", "s1")


def test_events_without_a_run_are_stored(instance: dg.DagsterInstance) -> None:
    with connections_kept(instance):
        for number in range(3):
            report(instance, f"p{number}")

        assert instance.get_materialized_partitions(ASSETS[0]) == {"p0", "p1", "p2"}


def test_the_log_of_an_earlier_run_is_read(instance: dg.DagsterInstance) -> None:
    run_id = run(instance)
    before = log_of(instance, run_id)

    with connections_kept(instance):
        assert log_of(instance, run_id) == before
        run(instance)

    assert log_of(instance, run_id) == before


@dg.op
def write_in_threads(context: dg.OpExecutionContext) -> None:
    def work(name: str) -> None:
        for number in range(10):
            context.log.info(f"{name}{number}")
            report(context.instance, f"{name}{number}")
            assert f"{name}{number}" in context.instance.get_materialized_partitions(ASSETS[0])

    with ThreadPoolExecutor() as threads:
        list(threads.map(work, "ab"))


@dg.job(executor_def=dg.in_process_executor)
def writing_in_threads() -> None:
    write_in_threads()


def test_two_threads_log_and_read_at_the_same_time(instance: dg.DagsterInstance) -> None:
    names = {f"{name}{number}" for name in "ab" for number in range(10)}

    with connections_kept(instance):
        result = writing_in_threads.execute_in_process(instance=instance)

    assert instance.get_materialized_partitions(ASSETS[0]) == names
    lines = [entry.user_message for entry in instance.all_logs(result.run_id)]
    for name in "ab":
        own = [line for line in lines if line in names and line.startswith(name)]
        assert own == [f"{name}{number}" for number in range(10)]


def test_a_block_that_threads_outlive_harms_none_of_their_events(
    instance: dg.DagsterInstance,
) -> None:
    failures: list[BaseException] = []
    began = threading.Event()

    def work() -> None:
        try:
            for number in range(60):
                report(instance, str(number))
                began.set()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    with connections_kept(instance):
        thread.start()
        began.wait(60)
    thread.join()

    assert failures == []
    assert len(instance.get_materialized_partitions(ASSETS[0])) == 60


def test_another_instance_sees_each_event_at_once_and_its_events_are_seen(
    instance: dg.DagsterInstance, home: Path
) -> None:
    with connections_kept(instance), dg.DagsterInstance.from_config(str(home)) as other:
        for number in range(2):
            one, reader = (instance, other) if number % 2 else (other, instance)
            report(one, str(number))
            assert str(number) in reader.get_materialized_partitions(ASSETS[0])

            run_id = run(one)
            assert log_of(reader, run_id) == log_of(one, run_id)


ANOTHER = """
import json, sys
import dagster as dg
with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    print(json.dumps(sorted(instance.get_materialized_partitions(dg.AssetKey("chunks")))))
    print(json.dumps([entry.user_message for entry in instance.all_logs(sys.argv[2])]))
    instance.report_runless_asset_event(dg.AssetMaterialization("chunks", partition="theirs"))
"""


def test_another_process_sees_what_was_logged_and_its_events_are_seen(
    instance: dg.DagsterInstance, home: Path
) -> None:
    with connections_kept(instance):
        run_id = run(instance)
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", ANOTHER, str(home), run_id],
            check=True,
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=120,
        )
        partitions = instance.get_materialized_partitions(ASSETS[0])

    seen, messages = map(json.loads, result.stdout.splitlines())
    assert seen == ["s0"]
    assert {"before", "after"} <= set(messages)
    assert partitions == {"s0", "theirs"}


def test_after_the_block_the_storage_is_as_before(instance: dg.DagsterInstance) -> None:
    storage = instance.event_log_storage
    run(instance)
    before = dict(vars(storage))

    with connections_kept(instance):
        run(instance)
        assert vars(storage) != before

    assert vars(storage) == before
    run(instance)


def test_a_block_that_fails_leaves_the_storage_as_before(instance: dg.DagsterInstance) -> None:
    before = dict(vars(instance.event_log_storage))

    with pytest.raises(ZeroDivisionError), connections_kept(instance):
        raise ZeroDivisionError

    assert vars(instance.event_log_storage) == before
    run(instance)


def test_an_event_that_cannot_be_stored_spoils_no_connection(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = instance.event_log_storage
    with connections_kept(instance):
        run(instance)
        with monkeypatch.context() as patch:
            patch.setattr(storage, "_store_asset_event", failing)
            with pytest.raises(ZeroDivisionError):
                report(instance, "bad")
        report(instance, "good")

        assert instance.get_materialized_partitions(ASSETS[0]) == {"s0", "good"}


def failing(*_: object) -> None:
    raise ZeroDivisionError


def test_another_storage_is_left_alone() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        before = dict(vars(instance.event_log_storage))

        with connections_kept(instance):
            assert vars(instance.event_log_storage) == before
            run(instance)


@pytest.fixture
def created(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The databases that engines are created for, by us and by Dagster."""
    found: list[str] = []
    for module in (event_storage, sqlite_event_log):
        noting(monkeypatch, module, found)
    return found


def noting(monkeypatch: pytest.MonkeyPatch, module: Any, found: list[str]) -> None:
    create: Callable[..., Any] = module.create_engine

    def noted(url: str, *arguments: Any, **options: Any) -> Any:
        found.append(url.rpartition("/")[-1].removesuffix(".db"))
        return create(url, *arguments, **options)

    monkeypatch.setattr(module, "create_engine", noted)


def test_an_engine_is_created_once_for_each_database(
    instance: dg.DagsterInstance, created: list[str]
) -> None:
    def work() -> str:
        run_id = run(instance)
        report(instance, "p")
        materialised(instance)
        return run_id

    with connections_kept(instance):
        first = work()
        created.clear()

        second = work()
        for run_id in (first, second) * 3:
            log_of(instance, run_id)
            materialised(instance)

    assert created == [second]  # its own database is new
    created.clear()
    work()
    assert len(created) > 10


def test_engines_are_disposed_of_after_the_block(
    instance: dg.DagsterInstance, home: Path, created: list[str]
) -> None:
    for _ in range(2):
        with connections_kept(instance):
            run(instance)
            assert open_databases(home)
        assert open_databases(home) == []

    assert created.count("index") >= 2


def open_databases(home: Path) -> Sequence[str]:
    """Return the files of the event log that this process has open."""
    folder = str(home / "history" / "runs")
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [str(path) for path in links if str(path).startswith(folder)]
