"""Errors as HTTP responses.

What belongs here: which error has which status, and what the caller is told: about the caller's
request everything, about the service's own trouble only that there is some. What does not: the
errors.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from rag_assets.core.display import masked
from rag_assets.core.errors import NotLiveError, RagAssetsError, SearchError, UnavailableError
from rag_assets.serving.service.access.callers import NotAllowedError, NotAuthenticatedError
from rag_assets.serving.service.workers import TookTooLongError, TooManyRequestsError

logger = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "1"}  # seconds


class NotReadyError(RagAssetsError):
    """The service is starting: what queries need is not loaded yet."""


class NotFoundError(RagAssetsError):
    """There is nothing of this name that the caller may see."""


RESPONSES: tuple[tuple[type[Exception], int, str, dict[str, str]], ...] = (
    (NotAuthenticatedError, 401, "not_authenticated", {"WWW-Authenticate": "Bearer"}),
    (NotAllowedError, 403, "not_allowed", {}),
    (NotFoundError, 404, "not_found", {}),
    (TooManyRequestsError, 429, "too_many_requests", RETRY_AFTER),
    (TookTooLongError, 504, "timeout", {}),
    (NotReadyError, 503, "not_ready", RETRY_AFTER),
    (NotLiveError, 503, "not_live", RETRY_AFTER),
    (SearchError, 400, "invalid_request", {}),
    (UnavailableError, 503, "unavailable", RETRY_AFTER),
    (Exception, 500, "internal", {}),
)
"""Error → status, code and headers; the first that fits."""

CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "invalid_request"}

OURS = {
    "not_live": "Nothing is live that could answer.",
    "unavailable": "A server that the service needs does not respond. Repeat the request later.",
    "internal": "The service has failed. Its log has the details under this request id.",
}
"""What is said of the service's own trouble; its log has the rest."""

NO_OBJECT = "The body has to be a JSON object, sent with Content-Type: application/json."


def add_error_handlers(app: FastAPI) -> None:
    """Have every error answered in the form of `ErrorResponse`."""

    async def failed(request: Request, error: Exception) -> JSONResponse:
        return response(request, error)

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _error(request, 422, "invalid_request", _problems(error.errors()))

    async def refused(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code = CODES.get(error.status_code, "invalid_request")
        return _error(request, error.status_code, code, str(error.detail), error.headers)

    app.add_exception_handler(RagAssetsError, failed)
    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, refused)


class SizeLimit:
    """Answers a request that announces more than the limit, which is otherwise the framework's.

    The framework's own answer has another form.
    """

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        length = Headers(scope=scope).get("content-length", "") if scope["type"] == "http" else ""
        if length.isdecimal() and int(length) > self._most:
            message = f"The request is larger than {self._most} bytes."
            refused = _error(Request(scope), 413, "too_large", message)
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Told:
    """What a caller is told of an error."""

    status: int
    code: str
    message: str
    headers: Mapping[str, str]


def told(error: Exception, request_id: str = "") -> Told:
    """Return what a caller is told of an error; the log gets what the caller does not."""
    _, status, code, headers = next(one for one in RESPONSES if isinstance(error, one[0]))
    if code in OURS:
        logger.error("Request %s: %s", request_id, masked(repr(error)))
    return Told(status, code, OURS.get(code) or str(error), headers)


def response(request: Request, error: Exception) -> JSONResponse:
    """Return the response to a request that raised an error."""
    said = told(error, request.state.request_id)
    return _error(request, said.status, said.code, said.message, said.headers)


def _problems(errors: Sequence[Any]) -> str:
    """Return what is wrong with a request's fields, without their values."""
    fields = [(".".join(map(str, one["loc"][1:])), one["msg"]) for one in errors]
    return "; ".join(f"{field}: {message}" if field else NO_OBJECT for field, message in fields)


def _error(
    request: Request, status: int, code: str, message: str, headers: Any = None
) -> JSONResponse:
    request.state.code = code
    error = {"code": code, "message": message, "request_id": request.state.request_id}
    return JSONResponse({"error": error}, status, headers)
