"""A client of the search service, which is used as a `Searcher` in process is.

What belongs here: requests, retries, and what responses mean. What does not: the form of requests
and responses (`serving/service/schemas.py`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from time import monotonic
from typing import Any, Self, TypeVar, Unpack

import httpx2
from pydantic import BaseModel, ValidationError
from tenacity import (
    AsyncRetrying,
    Retrying,
    retry_if_exception,
    stop_after_attempt,
    stop_before_delay,
)

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.adapters.model_server import wait_as_asked
from rag_assets.clients.connections import LoopClients
from rag_assets.core.errors import (
    ConfigurationError,
    CredentialsError,
    NotLiveError,
    RagAssetsError,
    SearchError,
    SearchUnavailableError,
)
from rag_assets.core.metadata.fields import FieldType, Value, value_of
from rag_assets.core.metadata.filters import Filter
from rag_assets.serving.question import SearchOptions
from rag_assets.serving.service.schemas import (
    ErrorModel,
    ErrorResponse,
    IndexResponse,
    ReleaseModel,
    SearchResponse,
)

ATTEMPTS = 4  # whoever asks waits for the answer
BUSY = frozenset({429, 503})
REFUSED = frozenset({400, 403, 413, 422})
"""Statuses that say what is wrong with a search."""
UNAUTHORISED = 401
SHOWN = 300  # characters of another server's answer in messages

Response = TypeVar("Response", bound=BaseModel)


class SearchClient:
    """Has a search service (`rag-assets serve`) answer questions. Thread-safe; close it after use.

    It searches as a `Searcher` does, with the same parameters, hits and errors, but for two things:
    `principals` that are left out are those of the token, and a service that does not answer is a
    `SearchUnavailableError`. One that is busy or not ready is asked again after the time that it
    names, as far as the time-out allows.

    JSON does not tell timestamps in metadata from strings. The fields that the service declares do;
    they are read after the first search, and again when there is another collection.
    """

    def __init__(
        self, url: str, token: str | Callable[[], str] = "", timeout: float = 30.0
    ) -> None:
        """Connect at the first search.

        Args:
            url: Where the service is, such as `https://search.example.com`.
            token: Bearer token, or a function that returns a valid one. It is called for each
                request, for those of `asearch` on the event loop, so it must not block.
            timeout: Maximum time of a request and its retries, in seconds.

        Raises:
            ConfigurationError: The URL is not one of HTTP, or contains credentials.
        """
        self._url = _checked(url)
        self._token = token
        self._timeout = timeout
        self._client = httpx2.Client(base_url=self._url)
        self._loop_clients = LoopClients(self._url)
        self._fields = _Fields()

    def __repr__(self) -> str:
        return f"SearchClient('{self._url}')"

    def search(self, question: str, limit: int = 10, **options: Unpack[SearchOptions]) -> list[Hit]:
        """Find the chunks that answer a question best; see `Searcher.search` for the parameters.

        Raises:
            SearchError: The service refuses the question, a parameter, or these principals.
            NotLiveError: Nothing is live.
            SearchUnavailableError: The service does not answer in time, is busy, or fails.
            CredentialsError: The service does not accept the token.
        """
        answer = self._ask(SearchResponse, "/v1/search", _body(question, limit, options))
        fields = self._fields
        if not fields.cover(answer):
            self._fields = fields = _Fields.of(answer, self._ask(IndexResponse, "/v1/index"))
        return fields.typed(answer.hits)

    async def asearch(
        self, question: str, limit: int = 10, **options: Unpack[SearchOptions]
    ) -> list[Hit]:
        """Search as `search` does, without blocking the event loop."""
        answer = await self._aask(SearchResponse, "/v1/search", _body(question, limit, options))
        fields = self._fields
        if not fields.cover(answer):
            index = await self._aask(IndexResponse, "/v1/index")
            self._fields = fields = _Fields.of(answer, index)
        return fields.typed(answer.hits)

    def release(self) -> ReleaseModel:
        """Return what the service answers from; see `search` for errors."""
        return self._ask(ReleaseModel, "/v1/release")

    def close(self) -> None:
        """Close the connections of `search`; those of `asearch` are closed with their loops."""
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections of `search`, and those of this event loop."""
        self._client.close()
        await self._loop_clients.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def _ask(self, kind: type[Response], path: str, body: str | None = None) -> Response:
        deadline = monotonic() + self._timeout

        def attempt() -> httpx2.Response:
            request = self._request(path, body, deadline)
            return self._client.request(**request).raise_for_status()

        with self._errors():
            return kind.model_validate_json(Retrying(**self._retries())(attempt).content)

    async def _aask(self, kind: type[Response], path: str, body: str | None = None) -> Response:
        deadline = monotonic() + self._timeout
        client = await self._loop_clients.of_running_loop()

        async def attempt() -> httpx2.Response:
            request = self._request(path, body, deadline)
            return (await client.request(**request)).raise_for_status()

        with self._errors():
            response: httpx2.Response = await AsyncRetrying(**self._retries())(attempt)
            return kind.model_validate_json(response.content)

    def _request(self, path: str, body: str | None, deadline: float) -> dict[str, Any]:
        token = self._token() if callable(self._token) else self._token
        if not (token.isascii() and token.isprintable()):  # an error would show it
            raise CredentialsError(f"The token for {self._url} is not plain text.")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return {
            "method": "GET" if body is None else "POST",
            "url": path,
            "content": body,
            "headers": headers | {"Content-Type": "application/json"},
            "timeout": max(deadline - monotonic(), 0.001),
        }

    def _retries(self) -> dict[str, Any]:
        return {
            "stop": stop_after_attempt(ATTEMPTS) | stop_before_delay(self._timeout),
            "wait": wait_as_asked,
            "retry": retry_if_exception(_is_transient),
            "reraise": True,
        }

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise what goes wrong as this project's errors."""
        try:
            yield
        except httpx2.HTTPStatusError as error:
            raise self._error(error.response) from error
        except httpx2.TimeoutException as error:
            message = f"{self._url} does not answer within {self._timeout:g} seconds."
            raise SearchUnavailableError(message) from error
        except httpx2.HTTPError as error:
            raise SearchUnavailableError(f"{self._url} cannot be reached: {error!r}.") from error
        except ValidationError:  # which quotes documents
            message = f"{self._url} answers, but not as a search service of this version does."
            raise SearchUnavailableError(message) from None

    def _error(self, response: httpx2.Response) -> RagAssetsError:
        status, told = response.status_code, _told(response)
        if status in REFUSED:
            return SearchError(told.message)
        if told.code == "not_live":
            return NotLiveError(told.message)
        message = f"{self._url} answered {status}: {told.message}"
        if status == UNAUTHORISED:
            return CredentialsError(message)
        return SearchUnavailableError(f"{message} (request {told.request_id})")


@dataclass(frozen=True, slots=True)
class _Fields:
    """The fields of metadata and their types, when answers came from a collection."""

    collection: str = ""
    types: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, answer: SearchResponse, index: IndexResponse) -> Self:
        """Return the fields to read an answer by."""
        return cls(answer.release.collection, {one.name: one.type for one in index.fields})

    def cover(self, answer: SearchResponse) -> bool:
        """Whether these are the fields to read an answer by."""
        names = {name for hit in answer.hits for name in hit.metadata}
        same = self.collection == answer.release.collection
        return not names or (same and names <= self.types.keys())

    def typed(self, hits: list[Hit]) -> list[Hit]:
        """Return hits with timestamps as such."""
        return [
            replace(hit, metadata={name: self._typed(name, v) for name, v in hit.metadata.items()})
            for hit in hits
        ]

    def _typed(self, name: str, value: Value) -> Value:
        is_timestamp = self.types.get(name) == FieldType.TIMESTAMP
        return (value_of(FieldType.TIMESTAMP, value) or value) if is_timestamp else value


def _checked(url: str) -> httpx2.URL:
    try:
        parsed = httpx2.URL(url)
    except httpx2.InvalidURL:
        parsed = httpx2.URL()
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise ConfigurationError(
            "The URL of a search service has the form https://HOST:PORT, without credentials."
        )
    return parsed


def _body(question: str, limit: int, options: SearchOptions) -> str:
    asked: dict[str, Any] = {"question": question, "limit": limit, **options}
    if around := asked.pop("around", None):
        asked["context"] = {
            "neighbours": around.neighbours,
            "section": around.section,
            "max_tokens": around.tokens,
        }
    given = {name: value for name, value in asked.items() if value is not None}
    return json.dumps(given, default=_plain)


def _plain(value: Any) -> Any:
    """Return the value of a parameter that JSON lacks."""
    match value:
        case Filter():
            return str(value)
        case date():
            return value.isoformat()
        case Mapping():
            return dict(value)
    raise TypeError(f"{value!r} is no value of a parameter")


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in BUSY
    return isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)


def _told(response: httpx2.Response) -> ErrorModel:
    """Return what the service says of an error, or what something in front of it does."""
    try:
        return ErrorResponse.model_validate_json(response.content).error
    except ValidationError:
        message = response.text[:SHOWN] or response.reason_phrase
        return ErrorModel(code="", message=message, request_id="unknown")
