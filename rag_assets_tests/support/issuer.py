"""An OpenID Connect issuer on loopback: discovery, keys, and tokens of any content."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

AUDIENCE = "search"


def new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class IssuerServer:
    """The issuer's state; tests change it while it runs."""

    url: str = ""
    key: rsa.RSAPrivateKey = field(default_factory=new_key)
    key_id: str = "first"
    requests: list[str] = field(default_factory=list)
    failure: str = ""
    """What is answered instead, if it is set."""

    def token(
        self, *, key: Any = None, algorithm: str = "RS256", headers: Any = None, **claims: Any
    ) -> str:
        """Return a token that is valid but for what is given; a claim of None is left out."""
        standard = {"iss": self.url, "aud": AUDIENCE, "sub": "user:ann", "exp": time.time() + 600}
        chosen = {name: value for name, value in (standard | claims).items() if value is not None}
        return jwt.encode(
            chosen,
            self.key if key is None else key,
            algorithm,
            headers=headers or {"kid": self.key_id},
        )

    def answer(self, path: str) -> dict[str, Any]:
        self.requests.append(path)
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        public = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return {"keys": [public | {"kid": self.key_id, "use": "sig", "alg": "RS256"}]}


@contextmanager
def issuer_server() -> Iterator[IssuerServer]:
    """Run an issuer as long as the block lasts."""
    state = IssuerServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = json.dumps(state.answer(self.path)).encode()
            content = state.failure.encode() or content
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        state.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield state
        finally:
            server.shutdown()
