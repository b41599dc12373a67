"""Milvus and S3 over TLS, with an authority of one's own that is named as the chart names it."""

import asyncio
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from rag_assets_tests.kubernetes.api import make_certificate
from rag_assets_tests.support.s3_server import Bucket

# In a process of its own: gRPC reads its roots once.
MILVUS = """
import sys
from rag_assets.adapters.milvus.store import MilvusStore
with MilvusStore.connect(sys.argv[1], token="root:Milvus", timeout=5) as store:
    print("collections", len(store.collections()))
"""
S3 = """
import sys
from rag_assets.adapters.objects.object_store import open_object_store
store = open_object_store(sys.argv[1], {})
store.put("over/tls", b"content", None)
print(store.get("over/tls").data.decode())
"""


@contextmanager
def behind_tls(uri: str, certificate: Path, protocol: str) -> Iterator[str]:
    """Put a TLS end in front of a server on loopback; yield its https address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "ca.crt", certificate / "ca.key")
    context.set_alpn_protocols([protocol])
    inner = urlsplit(uri)

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server = await asyncio.open_connection(inner.hostname, inner.port)
        await asyncio.gather(copy(reader, server[1]), copy(server[0], writer))

    loop = asyncio.new_event_loop()
    starting = asyncio.start_server(forward, "127.0.0.1", 0, ssl=context)
    server = loop.run_until_complete(starting)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("authority")
    make_certificate(folder)
    return folder


def run(code: str, argument: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, argument]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_milvus_over_tls(milvus_lite: str, certificate: Path) -> None:
    with behind_tls(milvus_lite, certificate, "h2") as address:
        trusted = run(MILVUS, address, GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=f"{certificate}/ca.crt")
        unknown = run(MILVUS, address)

    assert "collections" in trusted.stdout, trusted.stderr
    assert "did not accept a connection" in unknown.stderr
    assert "root:Milvus" not in unknown.stderr


@pytest.mark.slow
def test_s3_over_tls(bucket: Bucket, certificate: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "hunter2"}
    with behind_tls(bucket.endpoint, certificate, "http/1.1") as address:
        where = keys | {"AWS_ENDPOINT_URL": address, "AWS_DEFAULT_REGION": "us-east-1"}
        trusted = run(S3, f"{bucket.url}/lake", AWS_CA_BUNDLE=f"{certificate}/ca.crt", **where)
        unknown = run(S3, f"{bucket.url}/lake", **where)

    assert trusted.stdout.strip() == "content", trusted.stderr
    assert "LakeUnavailableError" in unknown.stderr
    assert "hunter2" not in unknown.stderr
