"""A retriever of LangChain: `pip install 'rag-assets[langchain]'`.

What belongs here: what LangChain expects. What does not: searching, and how hits are cited
(`retrieval.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.clients.retrieval import Searching, asearch, citation, content
from rag_assets.core.errors import MissingExtraError
from rag_assets.core.metadata.filters import Filter
from rag_assets.serving.question import Around, SearchOptions

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise MissingExtraError(
        "The retriever for LangChain needs langchain-core", "langchain"
    ) from error


PARAMETERS = ("limit", *SearchOptions.__annotations__)


class RagAssetsRetriever(BaseRetriever):
    """Retrieves documents from a search service, or by a searcher in process.

    Its fields besides `searcher` are the parameters of `Searcher.search`. A document is a hit: its
    id is the chunk's, its metadata are the document's with the hit's place and scores, and with
    `around` its content is the hit in its context.

    One retriever serves many users: whatever a call names stands in for the field of that name.

        retriever.invoke(question, principals=["user:ann"], where='year >= 2024')
        retriever.bind(principals=["user:ann"])  # in a chain that is built for each user

    In a chain that is built once, by the configuration of each call:

        chain = retriever.configurable_fields(principals=ConfigurableField("principals")) | ...
        chain.invoke(question, {"configurable": {"principals": ["user:ann"]}})
    """

    searcher: Searching
    limit: int = 10
    document_prefix: str | None = None
    where: Filter | str | Mapping[str, Any] | None = None
    principals: Sequence[str] | None = None
    hybrid: bool | None = None
    rerank: bool | None = None
    collapse: bool = True
    per_document: int | None = None
    around: Around | None = None

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - LangChain passes it
        **given: Any,
    ) -> list[Document]:
        return _documents(self.searcher.search(query, **self._asked(given)))

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002 - as above
        **given: Any,
    ) -> list[Document]:
        return _documents(await asearch(self.searcher, query, **self._asked(given)))

    def _asked(self, given: dict[str, Any]) -> dict[str, Any]:
        return {name: getattr(self, name) for name in PARAMETERS} | given


def _documents(hits: Sequence[Hit]) -> list[Document]:
    return [Document(content(hit), id=hit.chunk_id, metadata=citation(hit)) for hit in hits]
