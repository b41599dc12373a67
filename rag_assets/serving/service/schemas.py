"""Requests and responses of the service, as OpenAPI describes them.

What belongs here: their form. What does not: the bounds of a search's parameters
(`serving/question.py`), but for those that depend on settings.
"""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.core.reports.explanation import Explanation, Step
from rag_assets.serving.conditions import OFF
from rag_assets.serving.question import (
    MAX_CONTEXT_TOKENS,
    MAX_LIMIT,
    MAX_NEIGHBOURS,
    Around,
    Question,
)
from rag_assets.serving.ranks import Ranks
from rag_assets.serving.releases import Release
from rag_assets.serving.searcher import Searcher


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    principals: list[str] | None = Field(
        default=None,
        max_length=1000,
        description="The user and groups who ask. Left out: those of the token. Required if"
        " permissions are on and the token names none.",
    )


class ContextRequest(BaseModel):
    """What each hit brings of the text around it."""

    model_config = ConfigDict(extra="forbid")

    neighbours: int = Field(
        default=0, ge=0, le=MAX_NEIGHBOURS, description="Number of chunks before and after it."
    )
    section: bool = Field(default=False, description="Whether to bring its whole section.")
    max_tokens: int = Field(
        default=Around().tokens,
        ge=1,
        le=MAX_CONTEXT_TOKENS,
        description="Maximum tokens of one hit with it.",
    )


class SearchRequest(_Request):
    """A question, and how it is to be answered."""

    question: str = Field(min_length=1, description="In the user's words.")
    limit: int = Field(default=10, ge=1, le=MAX_LIMIT, description="Maximum number of hits.")
    document_prefix: str | None = Field(
        default=None, description="Prefix of the ids of documents to search, such as a folder."
    )
    where: str | dict[str, Any] | None = Field(
        default=None,
        description="Filter on metadata, as text or JSON, such as"
        ' `department == "legal" and year >= 2024`.',
    )
    hybrid: bool | None = Field(
        default=None, description="Whether to search by words, too. Default: if the model can."
    )
    rerank: bool | None = Field(
        default=None, description="Whether to rerank the hits. Default: if there is a reranker."
    )
    collapse: bool = Field(default=True, description="Whether equal texts are one hit.")
    per_document: int | None = Field(
        default=None, ge=1, le=MAX_LIMIT, description="Maximum number of hits of one document."
    )
    context: ContextRequest | None = None
    collection: str | None = Field(
        default=None, description="Collection to search instead of the live one. For operators."
    )

    def asked_by(self, principals: Sequence[str] | None) -> Question:
        """Return the question, as these ask it."""
        context = self.context or ContextRequest()
        return Question(
            text=self.question,
            limit=self.limit,
            document_prefix=self.document_prefix,
            where=self.where,
            principals=principals,
            hybrid=self.hybrid,
            rerank=self.rerank,
            collapse=self.collapse,
            per_document=self.per_document,
            around=Around(context.neighbours, context.section, context.max_tokens),
            collection=self.collection,
        )


class ChunksRequest(_Request):
    """Chunks of one document, by their numbers."""

    document_id: str = Field(min_length=1, max_length=4096)
    first: int = Field(default=0, ge=0, description="Number of the first chunk, from 0.")
    limit: int = Field(default=100, ge=1, le=MAX_LIMIT, description="Maximum number of chunks.")


class ReleaseModel(BaseModel):
    """What queries are answered from."""

    collection: str = Field(description="The physical collection in Milvus.")
    model: str = Field(description="Key of the embedding model.")
    signature: str = Field(description="Digest of everything that determines its vectors.")
    live_since: str | None = Field(description="When the model was made live, if that is known.")

    @classmethod
    def of(cls, release: Release) -> "ReleaseModel":
        """Return how a release is described."""
        spec = release.spec
        return cls(
            collection=release.collection,
            model=spec.key,
            signature=spec.signature,
            live_since=release.live_since or None,
        )


class SearchResponse(BaseModel):
    """The hits, best first."""

    hits: list[Hit]
    release: ReleaseModel
    reranked: bool = Field(description="Whether a reranker determined the order.")


class ChunksResponse(BaseModel):
    """Chunks of a document by number; none if there is no such document that the caller may see."""

    chunks: list[Hit]
    release: ReleaseModel


class FieldModel(BaseModel):
    """A field of metadata that filters can compare."""

    name: str
    type: str


class IndexResponse(BaseModel):
    """What can be searched, and how."""

    release: ReleaseModel
    fields: list[FieldModel]
    permissions: bool = Field(description="Whether searches depend on who asks.")
    reranker: str | None = Field(description="Key of the reranker, if there is one.")
    collections: list[ReleaseModel] = Field(description="All that can be searched. For operators.")
    webserver_url: str | None = Field(description="URL of the Dagster UI, if that is set.")

    @classmethod
    def of(
        cls, searcher: Searcher, webserver_url: str, *, all_collections: bool
    ) -> "IndexResponse":
        """Return what a searcher can search."""
        rules = searcher.rules
        found = searcher.releases.collections() if all_collections else []
        return cls(
            release=ReleaseModel.of(searcher.releases.current().release),
            fields=[FieldModel(name=one.name, type=one.type) for one in rules.field_set.values()],
            permissions=rules.visibility != OFF,
            reranker=searcher.reranking.key or None,
            collections=[ReleaseModel.of(one) for one in found],
            webserver_url=webserver_url or None,
        )


class ExplainRequest(_Request):
    """A document and, if it is to be ranked, a question."""

    document_id: str = Field(min_length=1, max_length=4096)
    question: str | None = Field(default=None, min_length=1)
    where: str | dict[str, Any] | None = Field(default=None, description="As for a search.")
    collection: str | None = Field(
        default=None, description="Collection to rank in instead of the live one. For operators."
    )

    def search(self) -> SearchRequest | None:
        """Return the search in which to rank it, if there is one."""
        if self.question is None:
            return None
        return SearchRequest(
            question=self.question,
            where=self.where,
            principals=self.principals,
            collection=self.collection,
        )


class ExplainResponse(BaseModel):
    """A document's way from its source to the rows that searches find."""

    document_id: str
    verdict: str = Field(description="What the steps amount to, in a sentence.")
    steps: list[Step]
    shard: str
    live: str = Field(description="The collection that queries are answered from.")
    ranks: Ranks | None = Field(description="Where the question finds it, if there was one.")

    @classmethod
    def of(cls, found: Explanation, ranks: Ranks | None) -> "ExplainResponse":
        """Return how an explanation is described."""
        return cls(
            document_id=found.document_id,
            verdict=found.verdict,
            steps=list(found.steps),
            shard=found.shard,
            live=found.live,
            ranks=ranks,
        )


class ErrorModel(BaseModel):
    """What is wrong, and what to do about it."""

    code: str = Field(description="For programs: it stays the same when the message changes.")
    message: str
    request_id: str = Field(description="Identifies the request in the service's log.")


class ErrorResponse(BaseModel):
    """The response of a request that failed."""

    error: ErrorModel
