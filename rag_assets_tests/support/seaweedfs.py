"""A real S3 server on loopback that lists folder by folder: SeaweedFS, from PyPI.

It differs from moto where S3 servers differ: keys are not listed in byte order, and `\\` and `//`
in keys are changed.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.s3_server import Bucket, new_bucket

START_SECONDS = 90
SERVERS = ("master", "volume", "filer", "s3")


@contextmanager
def seaweed_server(folder: Path) -> Iterator[str]:
    """Run the server with its data in a folder; yield its endpoint."""
    ports = free_ports(2 * len(SERVERS))
    http = dict(zip(SERVERS, ports, strict=False))
    grpc = dict(zip(SERVERS, ports[len(SERVERS) :], strict=True))
    options = {f"{name}.port": port for name, port in http.items()}
    options |= {f"{name}.port.grpc": port for name, port in grpc.items()}
    options |= {
        "dir": folder,
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 1_000,  # each bucket has volumes of its own
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "filer.localSocket": folder / "filer.sock",
        "s3.localSocket": folder / "s3.sock",
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [_program(), "server", "-s3", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=os.environ | {"HOME": str(folder), "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},
        )
    try:
        endpoint = f"http://127.0.0.1:{http['s3']}"
        _await_writable(process, endpoint, log)
        yield endpoint
    finally:
        process.kill()  # on SIGTERM it takes more than ten seconds
        process.wait()
        for name, port in grpc.items():  # which it always puts there
            Path(f"/tmp/seaweedfs-{name}-grpc-{port}.sock").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def seaweed_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint of a server that all tests of the session share; each has its own bucket."""
    with seaweed_server(tmp_path_factory.mktemp("seaweedfs")) as endpoint:
        yield endpoint


@pytest.fixture
def seaweed_bucket(seaweed_endpoint: str) -> Bucket:
    """An empty bucket on the shared server."""
    return new_bucket(seaweed_endpoint)


def _program() -> str:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed") or "weed"


def _await_writable(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    """Wait until an object can be written: it answers before it has a volume to write to."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            new_bucket(endpoint).put("ready", b"ready")
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"SeaweedFS did not start:\n{log.read_text()[-5000:]}")
            time.sleep(0.1)
        else:
            return
