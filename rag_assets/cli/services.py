"""Runs the embedded platform on loopback: Milvus Lite, Dagster's webserver and its daemon."""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.errors import ConfigurationError, RagAssetsError, VectorStoreError
from rag_assets.settings import Settings

logger = logging.getLogger(__name__)

HOST = "127.0.0.1"
STARTS_WITHIN = 120.0  # seconds; a cold disk makes Dagster's imports slow
STOPS_WITHIN = 15.0
POLL = 0.2

DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { healthy required } } } }"


class ServiceError(RagAssetsError):
    """A service did not start, or ended by itself."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process to run.

    Attributes:
        name: For messages and the log file's name.
        command: The program and its arguments.
        ready: Whether it answers now.
        port: The port it listens on, if it does.
    """

    name: str
    command: list[str]
    ready: Callable[[], bool]
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ServiceError with the end of its log if it has ended."""
        code = self.process.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise ServiceError(
                f"{self.service.name} ended with exit code {code}. Its log ({self.log}) ends:\n"
                f"{tail}"
            )


def prepare_home(settings: Settings) -> Path:
    """Make the home folder and Dagster's instance in it; return DAGSTER_HOME.

    The instance's configuration is the project's dagster.yaml, copied anew each time.
    """
    dagster_home = settings.home.resolve() / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(project_file("dagster.yaml"), dagster_home / "dagster.yaml")
    if not settings.source_url:
        (settings.home.resolve() / "documents").mkdir(exist_ok=True)
    return dagster_home


def project_file(name: str) -> Path:
    """Return a file of the project's top level, from a checkout or the working folder.

    Raises:
        ConfigurationError: It is in neither.
    """
    for folder in (Path.cwd(), Path(__file__).parents[2]):
        if (folder / name).exists():
            return folder / name
    raise ConfigurationError(f"There is no {name} here. Run this in a checkout of rag-assets.")


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which children see the same platform as this process."""
    home = settings.home.resolve()
    return {
        "POLARS_MAX_THREADS": "1",  # a shard's tables are small: handing them around costs more
        **os.environ,
        "RAG_ASSETS_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def use_instance(settings: Settings) -> None:
    """Let this process use the Dagster instance of `rag-assets dev`, unless one is named."""
    if "DAGSTER_HOME" not in os.environ:
        prepare_home(settings)
        os.environ |= environment(settings)


def milvus_lite(settings: Settings) -> Service | None:
    """Return the embedded Milvus server, or None if the settings name one elsewhere."""
    address = urlsplit(settings.milvus_uri)
    if address.hostname not in ("127.0.0.1", "localhost"):
        return None
    port = address.port or 19530
    data = settings.home.resolve() / "milvus"
    return Service(
        name="Milvus Lite",
        command=[
            *("milvus-lite", "server", "--data-dir", str(data)),
            *("--host", HOST, "--port", str(port)),
            # With more workers its strong reads miss rows while others write.
            *("--max-workers", "1"),
        ],
        ready=lambda: _milvusanswers(settings.milvus_uri),
        port=port,
    )


def dagster(port: int) -> Service:
    """Return `dagster dev`: webserver, daemon and the one code server that both share."""
    url = f"http://{HOST}:{port}"
    return Service(
        name="Dagster",
        command=[
            *("dagster", "dev", "-w", str(project_file("workspace.yaml").resolve())),
            *("-h", HOST, "-p", str(port)),
        ],
        ready=lambda: answers(lambda: daemons_healthy(f"{url}/graphql")),
        port=port,
    )


@contextmanager
def running(services: list[Service], settings: Settings) -> Iterator[list[Running]]:
    """Start services, each after the one before answers; stop all of them at the end.

    Raises:
        ConfigurationError: A port is taken.
        ServiceError: A service ended, or did not answer in time.
    """
    require_free_ports(services)
    with ExitStack() as stack:
        yield [stack.enter_context(_running(service, settings)) for service in services]


def wait_until_stopped(services: list[Running]) -> None:
    """Return on SIGINT or SIGTERM; raise ServiceError as soon as a service has ended."""
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stop.append(received))
    while not stop:
        for service in services:
            service.check()
        time.sleep(POLL)


@contextmanager
def _running(service: Service, settings: Settings) -> Iterator[Running]:
    log = settings.home.resolve() / "logs" / f"{service.name.lower().replace(' ', '-')}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            service.command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(settings),
            start_new_session=True,  # Ctrl-C reaches us alone; we stop the others in order
        )
    started = Running(service, process, log)
    try:
        _await_ready(started)
        yield started
    finally:
        _stop(process)


def _await_ready(started: Running) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while not started.service.ready():
        started.check()
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{started.service.name} did not answer within {STARTS_WITHIN:.0f} s;"
                f" see {started.log}."
            )
        time.sleep(POLL)
    started.check()  # something else may be answering on its port
    logger.info("%s is up", started.service.name)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group: first asked to, then made to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOPS_WITHIN)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def require_free_ports(services: list[Service]) -> None:
    """Raise ConfigurationError if a service's port is taken, with what to do about it."""
    for service in services:
        if service.port is not None:
            _require_free(service, service.port)


def _require_free(service: Service, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigurationError(
                f"{service.name} cannot start: port {port} on {HOST} is taken"
                f" ({error.strerror}). Stop what uses it, or choose another port: --port for the"
                " webserver, the one in RAG_ASSETS_MILVUS_URI for Milvus Lite."
            ) from error


def answers(ask: Callable[[], bool]) -> bool:
    """Tell whether a service answers, and with what it should."""
    try:
        return ask()
    except (httpx2.HTTPError, KeyError, TypeError):
        return False


def daemons_healthy(url: str) -> bool:
    """Tell whether all of Dagster's daemons that are needed are healthy, by its GraphQL API."""
    answer = httpx2.post(url, json={"query": DAEMONS}, timeout=10).json()
    statuses = answer["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
    return all(status["healthy"] for status in statuses if status["required"])


def _milvusanswers(uri: str) -> bool:
    try:
        MilvusStore.connect(uri, timeout=2.0).close()
    except VectorStoreError:
        return False
    return True
