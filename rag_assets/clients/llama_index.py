"""A retriever of LlamaIndex: `pip install 'rag-assets[llama-index]'`.

What belongs here: what LlamaIndex expects. What does not: searching, and how hits are cited
(`retrieval.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Unpack

from rag_assets.adapters.milvus.hits import Hit
from rag_assets.clients.retrieval import Searching, asearch, citation
from rag_assets.core.errors import MissingExtraError
from rag_assets.core.metadata.filters import Filter
from rag_assets.serving.question import SearchOptions

try:
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.retrievers import BaseRetriever
    from llama_index.core.schema import (
        NodeRelationship,
        NodeWithScore,
        QueryBundle,
        RelatedNodeInfo,
        TextNode,
    )
except ImportError as error:
    raise MissingExtraError(
        "The retriever for LlamaIndex needs llama-index-core", "llama-index"
    ) from error

READ = ("document_id", "title", "heading", "page")
"""The metadata that models get to read, too; the others are for programs."""


@dataclass
class RagAssetsQuery(QueryBundle):
    """A question of somebody, which stands in for a plain question of a query engine's user.

    Attributes:
        principals: The user and groups who ask, instead of the retriever's.
        where: A filter, instead of the retriever's.
    """

    principals: Sequence[str] | None = None
    where: Filter | str | Mapping[str, Any] | None = None


class RagAssetsRetriever(BaseRetriever):
    """Retrieves nodes from a search service, or by a searcher in process.

    A node is a hit: its id is the chunk's, its metadata are the document's with the hit's place
    and scores, and with `around` its text is the hit in its context.

    One retriever serves many users, as does an engine over it, if each question is one of somebody:

        engine = RetrieverQueryEngine.from_args(RagAssetsRetriever(client))
        engine.query(RagAssetsQuery(question, principals=["user:ann"]))

    Chat engines, and retrievers that write questions of their own, ask with the text alone. Give
    those a retriever for each user; it costs nothing, and shares the client.

        RagAssetsRetriever(client, principals=["user:ann"])
    """

    def __init__(
        self,
        searcher: Searching,
        limit: int = 10,
        *,
        callback_manager: CallbackManager | None = None,
        **options: Unpack[SearchOptions],
    ) -> None:
        """Retrieve with these parameters.

        Args:
            searcher: A `Searcher` or a `SearchClient`.
            limit: Maximum number of nodes.
            callback_manager: As for any retriever.
            **options: The other parameters of `Searcher.search`.
        """
        super().__init__(callback_manager)
        self._searcher = searcher
        self._limit = limit
        self._options = options

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        options = self._options | _own(query_bundle)
        hits = self._searcher.search(query_bundle.query_str, self._limit, **options)
        return [_node(hit) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        options = self._options | _own(query_bundle)
        hits = await asearch(self._searcher, query_bundle.query_str, self._limit, **options)
        return [_node(hit) for hit in hits]


def _own(query: QueryBundle) -> SearchOptions:
    """Return the parameters that a question brings itself."""
    options = SearchOptions()
    if isinstance(query, RagAssetsQuery):
        if query.principals is not None:
            options["principals"] = query.principals
        if query.where is not None:
            options["where"] = query.where
    return options


def _node(hit: Hit) -> NodeWithScore:
    metadata, text = citation(hit), hit.context or hit
    unread = [name for name, value in metadata.items() if name not in READ or not value]
    node = TextNode(
        id_=hit.chunk_id,
        text=text.text,
        start_char_idx=text.start,
        end_char_idx=text.end,
        metadata=metadata,
        excluded_llm_metadata_keys=unread,
        excluded_embed_metadata_keys=unread,
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=hit.document_id)},
    )
    return NodeWithScore(node=node, score=hit.ranked_by)
