"""A proxy between a client and a real S3 server that injects faults into single answers.

What belongs here: what the world does to requests and answers. What does not: an S3 of our own;
whatever no fault matches is the real server's answer.
"""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

import pytest

from rag_assets_tests.support.s3_server import Bucket, new_bucket

CONDITIONS = frozenset({"if-match", "if-none-match"})
HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive"})
HTML = b"<html><head><title>Login</title></head><body>Please log in.</body></html>"


@dataclass
class Fault:
    """What happens to the requests that match; the first fault that matches is the one.

    Attributes:
        path: Regular expression for the decoded path with its query, such as `/bucket/key?list`.
        method: Only requests with this method; empty for all.
        times: How many requests are affected, the first ones; None for all.
        code: S3's error code to answer with, without asking the server.
        status: The status of that answer, or of the answer with `body`.
        body: Answer with these bytes (an HTML page, say), without asking the server.
        truncate: Send this share of the server's body, then cut the connection.
        cut: Send this share of the server's body as if it were the whole.
        drop: Headers of the request, in lower case, that the server does not get to see.
        pause: Seconds before each tenth of the body.
        hits: How many requests it was applied to.
    """

    path: str = ""
    method: str = ""
    times: int | None = None
    code: str = ""
    status: int = 0
    body: bytes | None = None
    truncate: float | None = None
    cut: float | None = None
    drop: frozenset[str] = frozenset()
    pause: float = 0.0
    hits: int = 0

    def matches(self, method: str, path: str) -> bool:
        if self.times is not None and self.hits >= self.times:
            return False
        return self.method in ("", method) and re.search(self.path, path) is not None


@dataclass
class S3Proxy:
    """A running proxy: where it is, the faults to inject, and what was requested."""

    endpoint: str = ""
    faults: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def add(self, fault: Fault) -> Fault:
        self.faults.append(fault)
        return fault

    def fault_for(self, method: str, path: str) -> Fault:
        with self.lock:
            self.requests.append(f"{method} {path}")
            fault = next((f for f in self.faults if f.matches(method, path)), Fault())
            fault.hits += 1
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: S3Proxy
    upstream: str

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault_for(self.command, unquote(self.path))
        if fault.code:
            status, headers, answer = fault.status or 400, {}, _error(fault.code)
        elif fault.body is not None:
            status, headers, answer = fault.status or 200, {}, fault.body
        else:
            status, headers, answer = self._ask(body, fault.drop)
        self._send(status, headers, answer, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 - named by the base class

    def _ask(self, body: bytes, drop: frozenset[str]) -> tuple[int, dict[str, str], bytes]:
        """Pass the request on, with its Host: the signature is over that header."""
        server = HTTPConnection(urlsplit(self.upstream).netloc, timeout=60)
        server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in drop | {"connection", "transfer-encoding"}:
                server.putheader(name, value)
        server.endheaders(body or None)
        response = server.getresponse()
        answer = response.read()
        headers = {n: v for n, v in response.getheaders() if n.lower() not in HOP}
        if self.command == "HEAD":
            headers["Content-Length"] = response.getheader("Content-Length", "0")
        server.close()
        return response.status, headers, answer

    def _send(self, status: int, headers: dict[str, str], answer: bytes, fault: Fault) -> None:
        if fault.cut is not None:  # as of a server that sends no checksums
            answer = answer[: int(len(answer) * fault.cut)]
            headers = {n: v for n, v in headers.items() if not n.lower().startswith("x-amz-check")}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault.truncate is not None:
            self.wfile.write(answer[: int(len(answer) * fault.truncate)])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        step = max(1, len(answer) // 10) if fault.pause else max(1, len(answer))
        for start in range(0, len(answer), step):
            time.sleep(fault.pause)
            self.wfile.write(answer[start : start + step])

    def log_message(self, *args: object) -> None:
        """Log nothing."""


def _error(code: str) -> bytes:
    return (
        f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    )


@contextmanager
def s3_proxy(endpoint: str) -> Iterator[S3Proxy]:
    """Run a proxy on loopback before the server at an endpoint."""
    proxy = S3Proxy()
    handler = type("Handler", (_Handler,), {"proxy": proxy, "upstream": endpoint})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    proxy.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[S3Proxy]:
    """A proxy before moto's server."""
    with s3_proxy(s3_endpoint) as running:
        yield running


@pytest.fixture
def faulty_bucket(proxy: S3Proxy) -> Bucket:
    """A bucket that is reached through the proxy."""
    return new_bucket(proxy.endpoint)
