"""Erasure in Dagster's storage: previews, tables, messages and logs that name a document.

Dagster has no way to change what it has stored, so texts are replaced in its tables, by its own
connections, whatever database they go to: docs/adr/0015. Everything else of an event, such as its
numbers, tags and data version, stays, and so do lineage and staleness.

What belongs here: looking through all that Dagster has stored. What does not: what a trace is
(`core/erasure.py`).
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log import schema as events
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs import schema as runs
from dagster._core.storage.schedules import SqlScheduleStorage
from dagster._core.storage.schedules import schema as schedules
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy import Column, Connection, Table, func, or_, select, update

from rag_assets.core.erasure import Looked, Traces

LOGS = ("*.out", "*.err", "*.log")
OVERWRITTEN = b"#"

EVENTS = (
    (events.SqlEventLogStorageTable, "event"),
    (events.AssetKeyTable, "last_materialization"),
    (events.AssetCheckExecutionsTable, "evaluation_event"),
)
RUNS = (
    (runs.RunsTable, "run_body"),
    (runs.RunTagsTable, "value"),
    (runs.BulkActionsTable, "body"),
    (runs.BackfillTagsTable, "value"),
    (runs.DaemonHeartbeatsTable, "body"),
    (runs.KeyValueStoreTable, "value"),
)
SCHEDULES = (
    (schedules.JobTable, "job_body"),
    (schedules.InstigatorsTable, "instigator_body"),
    (schedules.JobTickTable, "tick_body"),
)
"""The columns in which Dagster stores texts, as JSON or plain."""


class Database(NamedTuple):
    """A database of Dagster's, and the columns of it to look through."""

    connect: Callable[[], AbstractContextManager[Connection]]
    columns: tuple[tuple[Table, str], ...]
    shared: bool = True  # by all runs, so that it has had rows of runs that were deleted


@dataclass
class Counted:
    """What was looked at, and in how much of it something was found."""

    examined: int = 0
    found: int = 0


@dataclass(frozen=True)
class Storage:
    """All that a Dagster instance has stored, and where traces of documents may be in it.

    Attributes:
        instance: The instance.
        traces: The traces.
        folders: Folders with logs of processes, beside those that Dagster captures.
    """

    instance: dg.DagsterInstance
    traces: Traces
    folders: tuple[Path, ...] = ()
    _places: dict[str, Counted] = field(default_factory=dict)

    def look(self) -> list[Looked]:
        """Look for traces."""
        return self._through(erase=False)

    def erase(self) -> list[Looked]:
        """Replace the texts that have traces; return what was found before."""
        return self._through(erase=True)

    @property
    def not_shown(self) -> list[str]:
        """What a look cannot show, in sentences."""
        unknown = []
        if not isinstance(self.instance.compute_log_manager, LocalComputeLogManager):
            kind = type(self.instance.compute_log_manager).__name__
            unknown.append(f"Output of runs that {kind} keeps elsewhere: it is not looked through.")
        if not isinstance(self.instance.event_log_storage, SqliteEventLogStorage):
            unknown.append(
                "Bytes of replaced texts in the files and the log of Dagster's database server:"
                " VACUUM FULL removes them from the former, the server's retention from the latter."
            )
        return unknown

    def concurrent_runs(self, own: str) -> int:
        """Return the number of runs in progress, except one."""
        statuses = list(NOT_FINISHED_STATUSES)
        found = self.instance.get_runs(dg.RunsFilter(statuses=statuses))
        return sum(run.run_id != own and run.status is not NOT_STARTED for run in found)

    def _through(self, *, erase: bool) -> list[Looked]:
        self._places.clear()
        for database in _databases(self.instance):
            with database.connect() as connection:
                path = _file(connection)
                if erase and path:
                    connection.exec_driver_sql("PRAGMA secure_delete=ON")
                looks = [
                    self._column(connection, table, table.c[name], erase=erase)
                    for table, name in database.columns
                ]
            rows_went = database.shared or any(look.found or not look.examined for look in looks)
            if erase and path and rows_went:
                _vacuum(path)
        for file in self._logs():
            self._log(file, erase=erase)
        return [
            Looked(f"Dagster: {place}", "files" if place == OUTPUT else "rows", n.examined, n.found)
            for place, n in sorted(self._places.items())
        ]

    def _column(
        self, connection: Connection, table: Table, column: Column[Any], *, erase: bool
    ) -> Counted:
        """Look through a column."""
        total = connection.execute(select(func.count()).select_from(table)).scalar_one()
        candidates = or_(*(column.contains(form, autoescape=True) for form in self.traces.forms))
        rows = connection.execute(select(table.c.id, column).where(candidates)).all()
        found = 0
        for number, stored in rows:
            scrubbed, traced = self._scrubbed(stored)
            found += traced
            if erase and traced:
                connection.execute(
                    update(table).where(table.c.id == number).values({column: scrubbed})
                )
        counted = self._places.setdefault(table.name, Counted())
        counted.examined += total
        counted.found += found
        return Counted(total, found)

    def _scrubbed(self, stored: str) -> tuple[str, bool]:
        """Return a stored text without traces, and whether it has any, wherever in it."""
        try:
            decoded = json.loads(stored)
        except ValueError:
            decoded = None
        if not isinstance(decoded, dict | list):
            return self.traces.scrubbed(stored, texts=True), self.traces.found(stored)
        return json.dumps(self.traces.scrubbed(decoded)), self.traces.within(decoded)

    def _logs(self) -> Iterator[Path]:
        """Yield the files with the output of runs, ticks and services."""
        manager = self.instance.compute_log_manager
        captured = [Path(manager._base_dir)] if isinstance(manager, LocalComputeLogManager) else []
        for folder in (*captured, *self.folders):
            for pattern in LOGS:
                yield from folder.rglob(pattern)

    def _log(self, file: Path, *, erase: bool) -> None:
        """Look through a file; overwrite lines in place, because a process may be writing it."""
        counted = self._places.setdefault(OUTPUT, Counted())
        counted.examined += 1
        data = file.read_bytes()
        spans = self.traces.spans(data)
        counted.found += bool(spans)
        if erase and spans:
            with file.open("r+b") as opened:
                for start, end in spans:
                    opened.seek(start)
                    opened.write(OVERWRITTEN * (end - start))


OUTPUT = "captured output"
NOT_STARTED = dg.DagsterRunStatus.NOT_STARTED


def _databases(instance: dg.DagsterInstance) -> Iterator[Database]:
    """Yield the databases of an instance.

    SQLite has one for the events of each run, beside the one with those of assets.
    """
    log, run_storage, ticks = (
        instance.event_log_storage,
        instance.run_storage,
        instance.schedule_storage,
    )
    if isinstance(log, SqliteEventLogStorage):
        for run_id in (RUNLESS_RUN_ID, *log.get_all_run_ids()):  # the former is not among them
            yield Database(_connecting(log, run_id), EVENTS[:1], shared=False)
    if isinstance(log, SqlEventLogStorage):
        yield Database(log.index_connection, EVENTS)
    if isinstance(run_storage, SqlRunStorage):
        yield Database(run_storage.connect, RUNS)
    if isinstance(ticks, SqlScheduleStorage):
        yield Database(ticks.connect, SCHEDULES)


def _connecting(
    log: SqliteEventLogStorage, run_id: str
) -> Callable[[], AbstractContextManager[Connection]]:
    return lambda: log.run_connection(run_id)


def _file(connection: Connection) -> Path | None:
    """Return the file of a SQLite database; None if it is none or in memory."""
    if connection.dialect.name != "sqlite":
        return None
    path = Path(connection.engine.url.database or "")
    return path if path.is_file() else None


def _vacuum(path: Path) -> None:
    """Write a SQLite database anew, so that nothing is left in free pages and in its log."""
    with closing(sqlite3.connect(path, timeout=SQLITE_BUSY_TIMEOUT_SECONDS)) as connection:
        connection.isolation_level = None
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
