"""Dagster's event log on SQLite, with its connections kept open for a run that stays.

Dagster's own opens two databases anew for each event, compiles its statements again, and asks for
the columns of its tables: 16 ms of processor time for a materialisation, against 4 ms
(`bench/latency.py` counts them in each change). On PostgreSQL, connections are kept anyway.

What belongs here: keeping connections. What does not: what is logged and read (`event_log.py`).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import QueuePool


@contextmanager
def connections_kept(instance: dg.DagsterInstance) -> Iterator[None]:
    """Keep the connections of an instance's event log open for as long as the block lasts."""
    storage = instance.event_log_storage
    if not isinstance(storage, SqliteEventLogStorage):
        yield
        return
    engines: dict[str, Engine] = {}

    @contextmanager
    def connect(shard: str) -> Iterator[Connection]:
        with storage._db_lock:
            if shard not in engines:
                engines[shard] = _engine(storage, shard)
            with engines[shard].begin() as connection:
                yield connection

    kept: dict[str, Callable[..., object]] = {
        "_connect": connect,
        "has_table": cache(storage.has_table),
        "has_asset_key_index_cols": cache(storage.has_asset_key_index_cols),
    }
    columns = storage.has_asset_key_index_cols()
    kept["_has_asset_key_index_cols_on_connection"] = lambda _: columns
    vars(storage).update(kept)
    try:
        yield
    finally:
        for name in kept:
            del vars(storage)[name]
        for engine in engines.values():
            engine.dispose()


def _engine(storage: SqliteEventLogStorage, shard: str) -> Engine:
    """Return the engine of one of the storage's databases, as the storage creates it."""
    engine = create_engine(
        storage.conn_string_for_shard(shard),
        poolclass=QueuePool,
        pool_size=1,
        connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False},
    )
    if shard not in storage._initialized_dbs:
        storage._initdb(engine)
        storage._initialized_dbs.add(shard)
    return engine
