"""A PostgreSQL server on loopback: Debian's, as a process of its own."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2

from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.requirements import missing
from rag_assets_tests.support.waiting import awaited

USER = "postgres"  # the server refuses to run as root


@dataclass(frozen=True)
class Postgres:
    """How to reach the server's database `dagster`."""

    port: int
    password: str = "p/w d"  # has characters that a URL would have to quote


def required_postgres() -> Path:
    """Return the folder of the server's programs; without it skip, or fail where CI runs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        missing("PostgreSQL's server is not installed (Debian: apt-get install postgresql).")
    return found[-1].parent


@contextmanager
def postgres_server(folder: Path) -> Iterator[Postgres]:
    """Run a new server in `folder`, which its own user must be able to reach."""
    programs, [port] = required_postgres(), free_ports(1)
    server = Postgres(port)
    folder.mkdir()
    (folder / "password").write_text(server.password)
    shutil.chown(folder, USER, USER)
    as_user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
    data, log = folder / "data", (folder / "server.log").open("wb")
    made = [programs / "initdb", "--pgdata", data, "--username", "dagster", "--auth"]
    made += ["scram-sha-256", "--pwfile", folder / "password", "--no-sync"]
    subprocess.run([*as_user, *map(str, made)], check=True, stdout=log, stderr=log)
    command = [programs / "postgres", "-D", data, "-p", port, "-h", "127.0.0.1", "-k", ""]
    command += ["-c", "fsync=off", "-c", "max_connections=200"]
    process = subprocess.Popen([*as_user, *map(str, command)], stdout=log, stderr=log)
    try:
        awaited(lambda: _database_made(server), "PostgreSQL to answer")
        yield server
    finally:
        process.terminate()
        process.wait()
        log.close()


def _database_made(server: Postgres) -> bool:
    where = {"host": "127.0.0.1", "port": server.port, "user": "dagster"}
    try:
        connection = psycopg2.connect(**where, password=server.password, dbname="postgres")
    except psycopg2.OperationalError:
        return False
    connection.autocommit = True
    with connection.cursor() as cursor:
        cursor.execute("create database dagster")
    connection.close()
    return True
