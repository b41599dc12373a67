"""Dagster's services one by one, as a cluster has them, so that a test can stop or kill one."""

import socket
import sys
from pathlib import Path

import httpx2
import yaml
from dagster._grpc.client import DagsterGrpcClient

from rag_assets.cli.services import HOST, LOOPBACK, Service, daemons_healthy, responds

MODULE = "rag_assets.definitions"
CHEAP_CODE_SERVER = """
from alembic.script import ScriptDirectory
from dagster._cli import main
read, known = ScriptDirectory.from_config, {}
def from_config(config):
    folder = config.get_main_option("script_location")
    if folder not in known:
        known[folder] = read(config)
    return known[folder]
ScriptDirectory.from_config = from_config
main()
"""
"""The code server, but it reads Dagster's migrations once, and not three times in each tick.

With SQLite that is half of what a tick takes.
"""


def workspace_file(home: Path, code_port: int) -> str:
    """Write the workspace that names the code server; return its path."""
    path = home / "workspace.yaml"
    server = {"host": HOST, "port": code_port, "location_name": MODULE}
    path.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    return str(path)


def code_server(port: int) -> Service:
    """Return the code server; runs are processes of it."""
    client = DagsterGrpcClient(host=HOST, port=port)
    return Service(
        name="Dagster code server",
        command=[
            *(sys.executable, "-c", CHEAP_CODE_SERVER, "api", "grpc"),
            *("-m", MODULE, "-h", HOST, "-p", str(port)),
        ],
        ready=lambda: _listens(port) and client.health_check_query() == "SERVING",
        port=port,
    )


def webserver(port: int, workspace: str) -> Service:
    """Return the webserver."""
    url = f"http://{HOST}:{port}/server_info"
    return Service(
        name="Dagster webserver",
        command=["dagster-webserver", "-w", workspace, "-h", HOST, "-p", str(port)],
        ready=lambda: responds(lambda: httpx2.get(url, **LOOPBACK).is_success),
        port=port,
    )


def daemon(webserver_port: int, workspace: str) -> Service:
    """Return the daemon: sensors, schedules, the run queue, backfills."""
    url = f"http://{HOST}:{webserver_port}/graphql"
    return Service(
        name="Dagster daemon",
        command=["dagster-daemon", "run", "-w", workspace],
        ready=lambda: responds(lambda: daemons_healthy(url)),
    )


def _listens(port: int) -> bool:
    """Tell whether a port is open; Dagster's client prints an error where it is not."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
