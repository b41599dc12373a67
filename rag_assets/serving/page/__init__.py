"""The search page: plain HTML, CSS and JavaScript modules, and the routes that serve them.

What belongs here: the page's files, and how browsers are told to treat them. What does not: what it
shows, which it asks the service for as any other client does (`service/routes.py`).
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from fastapi import APIRouter, HTTPException, Request, Response

FOLDER = Path(__file__).parent
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
POLICY = {
    "default-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'self'",
    "frame-ancestors": "'none'",
    "object-src": "'none'",
    "require-trusted-types-for": "'script'",  # no text becomes HTML, whatever a script tries
    "trusted-types": "'none'",
}
HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for again by its ETag
    "Content-Security-Policy": "; ".join(map(" ".join, POLICY.items())),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, path: Path) -> "_File":
        content = path.read_bytes()
        return cls(content, TYPES[path.suffix], f'"{sha256(content).hexdigest()[:32]}"')


def page_router() -> APIRouter:
    """Return the routes of the page, which is at `/`, and of what it consists of."""
    files = {path.name: _File.of(path) for path in FOLDER.iterdir() if path.suffix in TYPES}
    router = APIRouter(include_in_schema=False)

    @router.api_route("/", methods=["GET", "HEAD"])
    @router.api_route("/page/{name}", methods=["GET", "HEAD"])
    async def page(request: Request) -> Response:
        file = files.get(request.path_params.get("name", "index.html"))
        if file is None:
            raise HTTPException(404)
        headers = HEADERS | {"ETag": file.etag}
        if file.etag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.content, headers=headers, media_type=file.media_type)

    return router
