"""The processes of the embedded platform: Milvus Lite and Dagster, on loopback.

What belongs here: preparing the home folder, starting, watching and stopping processes. What does
not: the commands that do so (`main.py`, `demo.py`).
"""

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
from typing import Any
from urllib.parse import urlsplit

import httpx2

from rag_assets.core.errors import (
    ConfigurationError,
    RagAssetsError,
    VectorStoreError,
    VectorStoreUnavailableError,
)
from rag_assets.settings import Settings, variable

logger = logging.getLogger(__name__)

PACKAGE = Path(__file__).parents[1]
HOST = "127.0.0.1"
START = "rag-assets dev"
START_TIMEOUT = 120.0  # seconds; Dagster's imports are slow on a cold disk
STOP_TIMEOUT = 15.0
POLL_INTERVAL = 0.2
LOOPBACK: dict[str, Any] = {"verify": False, "trust_env": False}
"""Options of httpx2 on loopback: no certificates, which take 0.1 s of CPU to load, and no proxy."""

DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { healthy required } } } }"


class ServiceError(RagAssetsError):
    """A service did not start, or ended unexpectedly."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process to run; its log file is named after it, and `chosen_by` is what sets its port."""

    name: str
    command: list[str]
    ready: Callable[[], bool]
    port: int | None = None
    chosen_by: str = ""


@dataclass(frozen=True, slots=True)
class Running:
    """A service that has been started."""

    service: Service
    process: subprocess.Popen[bytes]
    log: Path

    def check(self) -> None:
        """Raise ServiceError, with the end of its log, if it has ended."""
        code = self.process.poll()
        if code is not None:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
            raise ServiceError(
                f"{self.service.name} ended with exit code {code}. The end of its log"
                f" ({self.log}):\n{tail}"
            )


def prepare_home(settings: Settings) -> Path:
    """Create the home folder with a Dagster instance in it; return DAGSTER_HOME.

    The instance's configuration is the package's dagster.yaml, copied every time.
    """
    dagster_home = settings.home.resolve() / "dagster"
    dagster_home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(PACKAGE / "dagster.yaml", dagster_home / "dagster.yaml")
    if not settings.source_url and not settings.sources_file:
        (settings.home.resolve() / "documents").mkdir(exist_ok=True)
    return dagster_home


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment with which child processes use the same platform as this one."""
    home = settings.home.resolve()
    return {
        "POLARS_MAX_THREADS": "1",  # a shard's tables are small, so threads would only add overhead
        variable("webserver_url"): settings.webserver_url,
        variable("search_url"): settings.search_url,
        **os.environ,
        "RAG_ASSETS_HOME": str(home),
        "DAGSTER_HOME": str(home / "dagster"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def with_links(settings: Settings, port: int, search_port: int) -> Settings:
    """Return the settings with the addresses of the UI and the search page, unless they are set."""
    ports = {"webserver_url": port, "search_url": search_port}
    links = {name: f"http://{HOST}:{number}" for name, number in ports.items() if number}
    unset = {name: link for name, link in links.items() if not getattr(settings, name)}
    return settings.model_copy(update=unset)


def use_instance(settings: Settings) -> None:
    """Use the Dagster instance of `rag-assets dev` in this process, unless DAGSTER_HOME is set."""
    if "DAGSTER_HOME" not in os.environ:
        prepare_home(settings)
        os.environ |= environment(settings)


def milvus_lite(settings: Settings) -> list[Service]:
    """Return the embedded Milvus server; an empty list if the settings name another host."""
    port = _embedded_port(settings)
    if port is None:
        return []
    data = settings.home.resolve() / "milvus"
    server = Service(
        name="Milvus Lite",
        command=[
            *("milvus-lite", "server", "--data-dir", str(data)),
            *("--host", HOST, "--port", str(port)),
            # With more workers, its strong reads miss rows during concurrent writes.
            *("--max-workers", "1"),
        ],
        ready=lambda: _milvus_responds(settings.milvus_uri),
        port=port,
        chosen_by=variable("milvus_uri"),
    )
    return [server]


def require_milvus(settings: Settings) -> None:
    """Refuse to go on without the embedded Milvus, at once; connecting would wait for it.

    Raises:
        VectorStoreUnavailableError: The settings name it, and nothing listens there.
    """
    port = _embedded_port(settings)
    if port is None:
        return
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) != 0:
            raise VectorStoreUnavailableError(
                f"Milvus Lite is not running at {settings.milvus_uri}. `{START}` starts it,"
                " together with Dagster and the search service, until Ctrl-C."
            )


def _embedded_port(settings: Settings) -> int | None:
    address = urlsplit(settings.milvus_uri)
    embedded = address.hostname in (HOST, "localhost")
    return (address.port or 19530) if embedded else None


def dagster(port: int) -> Service:
    """Return `dagster dev`: webserver, daemon and the code server that both share."""
    url = f"http://{HOST}:{port}"
    return Service(
        name="Dagster",
        command=[
            *("dagster", "dev", "-w", str(PACKAGE / "workspace.yaml")),
            *("-h", HOST, "-p", str(port)),
        ],
        ready=lambda: responds(lambda: daemons_healthy(f"{url}/graphql")),
        port=port,
        chosen_by="--port",
    )


def search_service(port: int) -> Service:
    """Return `rag-assets serve`, on loopback; it is up before there is anything to search."""
    url = f"http://{HOST}:{port}/healthz"
    return Service(
        name="Search service",
        command=["rag-assets", "serve", "--host", HOST, "--port", str(port)],
        ready=lambda: responds(lambda: httpx2.get(url, timeout=10, **LOOPBACK).is_success),
        port=port,
        chosen_by="--search-port",
    )


@contextmanager
def running(services: list[Service], settings: Settings) -> Iterator[list[Running]]:
    """Start services one after the other, as soon as the one before responds; stop them at the end.

    Raises:
        ConfigurationError: A port is in use.
        ServiceError: A service ended, or did not respond in time.
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
        time.sleep(POLL_INTERVAL)


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
            start_new_session=True,  # Ctrl-C reaches only this process, which stops the services
        )
    started = Running(service, process, log)
    try:
        _await_ready(started)
        yield started
    finally:
        _stop(process)


def _await_ready(started: Running) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not started.service.ready():
        started.check()
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{started.service.name} did not respond within {START_TIMEOUT:.0f} s;"
                f" see {started.log}."
            )
        time.sleep(POLL_INTERVAL)
    started.check()  # another process may be responding on its port
    logger.info("%s is up", started.service.name)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group: terminate it, and kill it after a timeout."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_TIMEOUT)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def require_free_ports(services: list[Service]) -> None:
    """Raise ConfigurationError, with a remedy, if a service's port is in use."""
    for service in services:
        if service.port is not None:
            require_free_port(service.name, HOST, service.port, service.chosen_by)


def require_free_port(name: str, host: str, port: int, chosen_by: str) -> None:
    """Raise ConfigurationError, with a remedy, if a port is in use or cannot be listened on."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"{name} cannot start: port {port} on {host} is in use or cannot be used"
                f" ({error.strerror}). Stop the process that uses it, or choose another port:"
                f" {chosen_by}."
            ) from error


def responds(request: Callable[[], bool]) -> bool:
    """Whether a service responds, and as expected."""
    try:
        return request()
    except (httpx2.HTTPError, KeyError, TypeError):
        return False


def daemons_healthy(url: str) -> bool:
    """Whether all required daemons of Dagster are healthy, according to its GraphQL API."""
    answer = httpx2.post(url, json={"query": DAEMONS}, timeout=10, **LOOPBACK).json()
    statuses = answer["data"]["instance"]["daemonHealth"]["allDaemonStatuses"]
    return all(status["healthy"] for status in statuses if status["required"])


def _milvus_responds(uri: str) -> bool:
    from rag_assets.adapters.milvus.store import MilvusStore  # noqa: PLC0415 - slow to import

    try:
        MilvusStore.connect(uri, timeout=2.0).close()
    except VectorStoreError:
        return False
    return True
