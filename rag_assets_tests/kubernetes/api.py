"""The API server: routes, who may do what, and the answers; on loopback."""

import json
import re
import ssl
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from rag_assets_tests.kubernetes.cluster import Cluster

ROUTE = re.compile(
    r"/(?:apis/(?P<group>[^/]+)|api)/v[^/]+/namespaces/(?P<namespace>[^/]+)/"
    r"(?P<resource>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<part>[^/]+))?)?"
)
ACCOUNT = "rag-assets"
VERBS = {"POST": "create", "DELETE": "delete", "PUT": "update", "PATCH": "patch"}


class ApiError(Exception):
    """An answer that is a refusal."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason

    @property
    def body(self) -> dict[str, Any]:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "code": self.code,
        }


@dataclass(frozen=True)
class Request:
    """A request, taken apart."""

    verb: str
    group: str
    resource: str
    name: str
    part: str
    namespace: str
    options: dict[str, str]
    body: Any
    token: str

    @property
    def what(self) -> str:
        return f"{self.resource}/{self.part}" if self.part else self.resource

    @property
    def policy(self) -> str:
        return self.options.get("propagationPolicy") or (self.body or {}).get(
            "propagationPolicy", ""
        )

    @property
    def grace(self) -> float | None:
        given = self.options.get("gracePeriodSeconds", (self.body or {}).get("gracePeriodSeconds"))
        return None if given is None else float(given)


def dispatch(cluster: "Cluster", request: Request) -> Any:
    """Carry out a request; raises ApiError for what is refused or not served."""
    handlers: dict[tuple[str, str], Callable[[], Any]] = {
        ("create", "jobs"): lambda: cluster.create_job(request.body),
        ("list", "jobs"): lambda: cluster.listing("Job", request.options),
        ("get", "jobs"): lambda: cluster.job(request.name).body,
        ("get", "jobs/status"): lambda: cluster.job(request.name).body,
        ("delete", "jobs"): lambda: cluster.delete_job(request.name, request.policy),
        ("list", "pods"): lambda: cluster.listing("Pod", request.options),
        ("get", "pods"): lambda: cluster.pod(request.name).body,
        ("get", "pods/status"): lambda: cluster.pod(request.name).body,
        ("get", "pods/log"): lambda: cluster.log(request.name, request.options),
        ("delete", "pods"): lambda: cluster.delete_pod(request.name, request.grace),
        ("list", "events"): lambda: cluster.listing("Event", request.options),
    }
    handler = handlers.get((request.verb, request.what))
    if handler is None:
        cluster.unknown.append(f"{request.verb} {request.what}")
        raise ApiError(405, "MethodNotAllowed", f"{request.verb} {request.what} is not served")
    authorize(cluster, request)
    return handler()


def authorize(cluster: "Cluster", request: Request) -> None:
    """Raise ApiError unless a Role of the token's account allows the request."""
    rules = cluster.rules_of(request.token)
    if rules is None:
        raise ApiError(401, "Unauthorized", "Unauthorized")
    for rule in rules:
        if (
            request.group in rule["apiGroups"]
            and request.what in rule["resources"]
            and request.verb in rule["verbs"]
        ):
            return
    raise ApiError(
        403,
        "Forbidden",
        f'{request.what} is forbidden: User "{ACCOUNT}" cannot {request.verb} resource'
        f' "{request.what}" in API group "{request.group}" in the namespace "{request.namespace}"',
    )


class ApiServer:
    """The HTTP side; with a certificate (a folder's ca.crt and ca.key) over TLS."""

    def __init__(self, cluster: "Cluster", certificate: Path | None = None) -> None:
        self._cluster = cluster
        self._httpd = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._httpd.daemon_threads = True
        self.port = self._httpd.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "ca.crt", certificate / "ca.key")
            self._httpd.socket = context.wrap_socket(
                self._httpd.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(target=self._httpd.serve_forever)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._httpd.shutdown()
        self._thread.join()
        self._httpd.server_close()

    def discard(self) -> None:
        """Give the port back; only before `start`."""
        self._httpd.server_close()

    def answer(self, method: str, target: str, token: str, raw: bytes) -> tuple[int, Any]:
        """Return the status and the body of the answer."""
        with self._cluster.lock:
            try:
                request = self._understood(method, urlsplit(target), token, raw)
                return (201 if method == "POST" else 200), dispatch(self._cluster, request)
            except ApiError as error:
                return error.code, error.body

    def _understood(self, method: str, target: SplitResult, token: str, raw: bytes) -> Request:
        cluster = self._cluster
        if cluster.refusals:
            code = cluster.refusals.pop(0)
            raise ApiError(code, "Injected", f"the stand-in was told to answer {code}")
        found = ROUTE.fullmatch(unquote(target.path))
        if found is None or found["namespace"] != cluster.namespace:
            cluster.unknown.append(f"{method} {target.path}")
            raise ApiError(404, "NotFound", f"there is no {target.path}")
        request = Request(
            verb=VERBS.get(method) or ("get" if found["name"] else "list"),
            group=found["group"] or "",
            resource=found["resource"],
            name=found["name"] or "",
            part=found["part"] or "",
            namespace=found["namespace"],
            options=dict(parse_qsl(target.query)),
            body=json.loads(raw) if raw else None,
            token=token,
        )
        cluster.requested.append(request)
        return request


def make_certificate(folder: Path) -> None:
    """Make ca.crt and ca.key of a server on loopback, which is its own authority."""
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    words += " -subj /CN=stand-in -addext subjectAltName=IP:127.0.0.1 -keyout ca.key -out ca.crt"
    subprocess.run(words.split(), cwd=folder, check=True, capture_output=True)


def _handler(server: ApiServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization", "").rpartition(" ")[2]
            status, body = server.answer(self.command, self.path, token, raw)
            plain = isinstance(body, bytes)
            content = body if plain else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if plain else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler
