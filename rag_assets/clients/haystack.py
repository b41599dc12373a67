"""A retriever of Haystack: `pip install 'rag-assets[haystack]'`.

What belongs here: what Haystack expects. What does not: searching, and how hits are cited
(`retrieval.py`).
"""

from dataclasses import asdict
from typing import Any, Self

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.clients.retrieval import Searching, asearch, citation, content
from rag_assets.clients.service import SearchClient
from rag_assets.core.errors import ConfigurationError, MissingExtraError
from rag_assets.serving.question import Around

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils import Secret
except ImportError as error:
    raise MissingExtraError("The retriever for Haystack needs haystack-ai", "haystack") from error

Filters = dict[str, Any] | str
"""Haystack's form of filters, or the text of one of this package."""

POSITIVE = {"!=": "==", "not in": "in"}


@component
class RagAssetsRetriever:
    """Retrieves documents from a search service, or by a searcher in process.

    A document is a hit: its id is the chunk's, its meta are the document's with the hit's place
    and scores, and with `around` its content is the hit in its context.

    One retriever serves many users: who asks, and their filters, are inputs of each run.

        pipeline.run({"retriever": {"query": question, "principals": ["user:ann"]}})

    A pipeline is written down with a retriever that has the service's URL, and its token from the
    environment. It is read by `Pipeline.loads(text, allowed_modules=["rag_assets.clients"])`.

        RagAssetsRetriever(url, token=Secret.from_env_var("SEARCH_TOKEN"))
    """

    def __init__(
        self,
        searcher: Searching | str,
        *,
        token: Secret | None = None,
        top_k: int = 10,
        filters: Filters | None = None,
        principals: list[str] | None = None,
        document_prefix: str | None = None,
        hybrid: bool | None = None,
        rerank: bool | None = None,
        collapse: bool = True,
        per_document: int | None = None,
        around: Around | None = None,
    ) -> None:
        """Retrieve with these parameters.

        Args:
            searcher: A `Searcher`, a `SearchClient`, or the URL of a search service.
            token: Token for the URL.
            top_k: Maximum number of documents.
            filters: Filters on the documents' metadata, in Haystack's form and with its meaning, or
                as `where` of `Searcher.search`.
            principals: The user and groups who ask. This and all that follow are as for
                `Searcher.search`.
            document_prefix: Prefix of the ids of documents to search.
            hybrid: Whether to search by words, too.
            rerank: Whether to rerank.
            collapse: Whether equal texts are one document.
            per_document: Maximum number of passages of one document.
            around: What each passage brings of the text around it.
        """
        self._url, self._token = searcher if isinstance(searcher, str) else "", token
        if isinstance(searcher, str):
            searcher = SearchClient(searcher, self._resolved)
        self._searcher = searcher
        self._top_k = top_k
        self._filters = filters
        self._options: dict[str, Any] = {
            "principals": principals,
            "document_prefix": document_prefix,
            "hybrid": hybrid,
            "rerank": rerank,
            "collapse": collapse,
            "per_document": per_document,
            "around": around,
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the retriever as values of YAML.

        Raises:
            ConfigurationError: It was not made with a URL.
        """
        if not self._url:
            raise ConfigurationError(
                "A retriever that was made with a searcher or client cannot be written down: it"
                " consists of connections. Make it with the URL of a search service."
            )
        around = self._options["around"]
        return default_to_dict(
            self,
            searcher=self._url,
            token=self._token,
            top_k=self._top_k,
            filters=self._filters,
            **self._options | {"around": around and asdict(around)},
        )

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Return the retriever that `to_dict` has written down."""
        given = dict(data.get("init_parameters", {}))
        if around := given.get("around"):
            given["around"] = Around(**around)
        return default_from_dict(cls, {**data, "init_parameters": given})

    def close(self) -> None:
        """Close the connections to a URL."""
        if self._url and isinstance(self._searcher, SearchClient):
            self._searcher.close()

    async def close_async(self) -> None:
        """Close the connections to a URL, with those of this event loop."""
        if self._url and isinstance(self._searcher, SearchClient):
            await self._searcher.aclose()

    @component.output_types(documents=list[Document])
    def run(
        self,
        query: str,
        filters: Filters | None = None,
        top_k: int | None = None,
        principals: list[str] | None = None,
    ) -> dict[str, list[Document]]:
        """Retrieve documents.

        Args:
            query: The question, in the user's words.
            filters: Instead of the retriever's.
            top_k: Instead of the retriever's.
            principals: The user and groups who ask, instead of the retriever's.
        """
        asked = self._asked(filters, top_k, principals)
        return {"documents": _documents(self._searcher.search(query, **asked))}

    @component.output_types(documents=list[Document])
    async def run_async(
        self,
        query: str,
        filters: Filters | None = None,
        top_k: int | None = None,
        principals: list[str] | None = None,
    ) -> dict[str, list[Document]]:
        """Retrieve documents as `run` does, without blocking the event loop."""
        asked = self._asked(filters, top_k, principals)
        return {"documents": _documents(await asearch(self._searcher, query, **asked))}

    def _resolved(self) -> str:
        return str(self._token.resolve_value() or "") if self._token else ""

    def _asked(
        self, filters: Filters | None, top_k: int | None, principals: list[str] | None
    ) -> dict[str, Any]:
        asked = {
            **self._options,
            "where": _where(self._filters if filters is None else filters),
            "limit": self._top_k if top_k is None else top_k,
        }
        return asked if principals is None else asked | {"principals": principals}


def _where(filters: Filters | None) -> Filters | None:
    """Return filters of Haystack as this package's: a comparison is negated as a whole there."""
    match filters:
        case {"operator": "AND" | "OR" | "NOT" as how, "conditions": list(conditions)}:
            terms = [_where(one) for one in conditions]
            return {"not": {"and": terms}} if how == "NOT" else {how.lower(): terms}
        case {"field": str(name), "operator": str(how), "value": value}:
            comparison = {
                "field": name.removeprefix("meta."),
                "operator": POSITIVE.get(how, how),
                "value": value,
            }
            return {"not": comparison} if how in POSITIVE else comparison
    return filters or None


def _documents(hits: list[Hit]) -> list[Document]:
    return [
        Document(id=hit.chunk_id, content=content(hit), meta=citation(hit), score=hit.ranked_by)
        for hit in hits
    ]
