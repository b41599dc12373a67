"""The query side: alias → release → the live model's encoder → its physical collection."""

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rag_assets.adapters.embedders import Embedder, load_embedder
from rag_assets.adapters.milvus import CollectionMissingError, Hit, MilvusStore
from rag_assets.adapters.model_file import find_model_spec
from rag_assets.core.errors import SearchError
from rag_assets.core.model_spec import ModelSpec
from rag_assets.settings import Settings, load_settings


@dataclass(frozen=True, slots=True)
class Release:
    """What queries are answered from: a physical collection and the model that filled it."""

    collection: str
    spec: ModelSpec


class Searcher:
    """Answers questions from the live collection. Thread-safe; close it after use.

    The release is resolved once for each query and the physical collection is searched by
    name, so that a query never mixes one model's vector with another model's collection while
    the alias moves.
    """

    def __init__(
        self,
        store: MilvusStore,
        alias: str,
        find_spec: Callable[[str], ModelSpec],
        load: Callable[[ModelSpec], Embedder] = load_embedder,
    ) -> None:
        self._store = store
        self._alias = alias
        self._find_spec = find_spec
        self._load = load
        self._encoders: dict[str, Embedder] = {}  # by signature

    @classmethod
    def open(cls, settings: Settings | None = None) -> Self:
        """Connect with the settings of the environment, or the given ones.

        Raises:
            VectorStoreError: Milvus cannot be reached.
        """
        settings = settings or load_settings()
        key = settings.embedding_api_key.get_secret_value()
        return cls(
            MilvusStore.connect(
                settings.milvus_uri, token=settings.milvus_token.get_secret_value()
            ),
            settings.alias,
            lambda model: find_model_spec(settings.models_file, model),
            lambda spec: load_embedder(spec, api_key=key),
        )

    def search(
        self, question: str, limit: int = 10, *, document_prefix: str | None = None
    ) -> list[Hit]:
        """Find the chunks that answer a question best.

        Args:
            question: In the user's words; not empty.
            limit: The most hits to return, from 1 to 1,000.
            document_prefix: Only documents whose id starts with this, for instance a folder.

        Returns:
            Hits, best first, each with document, heading, text, score and offsets.

        Raises:
            SearchError: Nothing is live, the question is empty, or the live collection and its
                model's spec do not belong together.
            ConfigurationError: The live model is unknown or cannot be loaded.
            VectorStoreError: Milvus cannot be reached.
        """
        if not question.strip():
            raise SearchError("The question is empty.")
        if not 1 <= limit <= 1000:  # noqa: PLR2004
            raise SearchError(f"limit must be from 1 to 1000, not {limit}.")
        try:
            return self._search(question, limit, document_prefix)
        except CollectionMissingError:  # retired between resolving and searching
            return self._search(question, limit, document_prefix)

    def release(self) -> Release:
        """Resolve what is live now.

        Raises:
            SearchError: Nothing is live, or the collection was made by another spec.
            ConfigurationError: Its model is not in the models file.
        """
        collection = self._store.alias_target(self._alias)
        if collection is None:
            raise SearchError(
                f"Nothing is live: there is no alias {self._alias!r}. Materialise live_alias, or"
                " set RAG_ASSETS_ALIAS to the alias that is in use."
            )
        properties = self._store.info(collection).properties
        spec = self._find_spec(properties.get("model", ""))
        if properties.get("signature") != spec.signature:
            raise SearchError(
                f"Collection {collection} was filled by another spec of {spec.key} than the models"
                " file has: its vectors cannot be compared with this encoder's. Use the models"
                " file that the collection was built with."
            )
        return Release(collection, spec)

    def close(self) -> None:
        """Close the connection."""
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _search(self, question: str, limit: int, document_prefix: str | None) -> list[Hit]:
        release = self.release()
        vector = self._encoder(release.spec).encode_queries([question])[0]
        return self._store.search(
            release.collection, vector, limit, document_prefix=document_prefix
        )

    def _encoder(self, spec: ModelSpec) -> Embedder:
        if spec.signature not in self._encoders:
            self._encoders[spec.signature] = self._load(spec)
        return self._encoders[spec.signature]
