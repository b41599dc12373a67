"""Real Milvus servers on loopback, for tests.

`milvus_lite` and `milvus_full` start one server for the whole session, `milvus_uri` runs a
test over both. A `MilvusServer` can also be started by itself, killed and started again on
its data.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from random import SystemRandom

import pytest

from rag_assets.core.errors import VectorStoreError
from rag_assets_tests.support.requirements import missing

VENV_VARIABLE = "RAG_ASSETS_MILVUS_VENV"
START_SECONDS = 180
PORTS = (10_000, 32_768)
PORTED_PARTS = (
    "etcd",
    "root-coord",
    "proxy",
    "proxy-internal",
    "query-coord",
    "query-node",
    "index-coord",
    "index-node",
    "data-coord",
    "data-node",
)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on, all different.

    No client is given one while a server that was killed is down: they are below those that
    systems choose for the client's end of a connection.
    """
    found: list[int] = []
    with ExitStack() as stack:
        while len(found) < count:
            one = stack.enter_context(socket.socket())
            with suppress(OSError):
                one.bind(("127.0.0.1", SystemRandom().randrange(*PORTS)))
                found.append(one.getsockname()[1])
    return found


class MilvusServer:
    """A server process with all its children; `start` returns when it answers."""

    def __init__(self, command: list[str], port: int, folder: Path, **environment: str) -> None:
        self.uri = f"http://127.0.0.1:{port}"
        self._command = command
        self._log = folder / "server.log"
        self._environment = os.environ | environment
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # a process group of its own, to kill children too
            )
        try:
            self._await_answer()
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """End the whole process group at once, as a crash would."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def _await_answer(self) -> None:
        from rag_assets.adapters.milvus.store import MilvusStore  # noqa: PLC0415 - takes a second

        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with MilvusStore.connect(self.uri, timeout=2) as store:
                    store.collections()
            except VectorStoreError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{self._command[0]} did not start:\n{self._log.read_text()}")
                time.sleep(0.1)
            else:
                return


def lite_server(folder: Path) -> MilvusServer:
    """Milvus Lite, with the one worker that concurrent writers need."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(folder / "data")]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-workers", "1"]
    return MilvusServer(command, port, folder)


def full_server(folder: Path, executable: Path) -> MilvusServer:
    """The full engine, which is one process with etcd inside, under a small Python parent."""
    ports = dict(zip(PORTED_PARTS, free_ports(len(PORTED_PARTS)), strict=True))
    command = [str(executable), "--data", str(folder / "data")]
    for part, port in ports.items():
        command += [f"--{part}-port", str(port)]
    etcd = _etcd_configuration(folder, ports["etcd"])
    return MilvusServer(command, ports["proxy"], folder, ETCD_CONFIG_PATH=str(etcd))


def _etcd_configuration(folder: Path, client_port: int) -> Path:
    """A file that moves the embedded etcd away from its fixed ports 2379 and 2380."""
    client = f"http://127.0.0.1:{client_port}"
    peer = f"http://127.0.0.1:{free_ports(1)[0]}"
    path = folder / "etcd.yaml"
    path.write_text(
        f"name: default\nlisten-client-urls: {client}\nadvertise-client-urls: {client}\n"
        f"listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\n"
        f"initial-cluster: default={peer}\n"
    )
    return path


def full_executable() -> Path:
    """Where the full engine is; without it, the test is skipped, or fails where CI runs."""
    default = Path(__file__).parents[2] / ".venv-milvus"
    executable = Path(os.environ.get(VENV_VARIABLE, default)) / "bin" / "milvus-server"
    if not executable.is_file():
        missing(
            f"The full Milvus engine is not at {executable}. Install it with"
            " `python -m venv .venv-milvus && .venv-milvus/bin/pip install milvus==2.3.5`,"
            f" or name its venv in {VENV_VARIABLE}."
        )
    return executable


def _running(server: MilvusServer) -> Iterator[str]:
    server.start()
    try:
        yield server.uri
    finally:
        server.kill()


@pytest.fixture(scope="session")
def milvus_lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a Milvus Lite server."""
    yield from _running(lite_server(tmp_path_factory.mktemp("milvus-lite")))


@pytest.fixture(scope="session")
def milvus_full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a server with the full engine."""
    yield from _running(full_server(tmp_path_factory.mktemp("milvus-full"), full_executable()))


@pytest.fixture(scope="session", params=["milvus_lite", "milvus_full"])
def milvus_uri(request: pytest.FixtureRequest) -> str:
    """URI of each engine in turn."""
    return str(request.getfixturevalue(request.param))
