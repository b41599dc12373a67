"""The query side: alias → release → the live model's encoder → its physical collection."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Self

from rag_assets.adapters.embedders.embedder import Embedder, load_embedder
from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.adapters.milvus.rows import Hit
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.adapters.yaml_files import find_model_spec
from rag_assets.core.errors import RagAssetsError, SearchError
from rag_assets.core.models.spec import ModelSpec, Sparse
from rag_assets.core.models.vectors import Encoded
from rag_assets.settings import Settings, load_settings

logger = logging.getLogger(__name__)

ENCODERS = 2  # kept warm: the live model's and that of the one before, for a rollback


@dataclass(frozen=True, slots=True)
class Release:
    """What queries are answered from: a physical collection and the model that filled it."""

    collection: str
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class Serving:
    """A release with the encoder that belongs to it, and no other."""

    release: Release
    encoder: Embedder


class Searcher:
    """Answers questions from the live collection. Thread-safe; close it after use.

    A query is answered from one release, resolved before it begins: its question is encoded by
    the release's own encoder and searched for in the release's physical collection, by name, so
    that it never mixes one model's vector with another model's collection while the alias moves.

    After the alias has moved, queries go on being answered from the release before until the new
    one's encoder is loaded, so that no query waits for that. The one before stays warm.
    """

    def __init__(
        self,
        store: MilvusStore,
        alias: str,
        find_spec: Callable[[str], ModelSpec],
        load: Callable[[ModelSpec], Embedder] = load_embedder,
        *,
        refresh_seconds: float = 1.0,
    ) -> None:
        """Answer from what `alias` names.

        Args:
            store: The connection to Milvus.
            alias: The alias.
            find_spec: Gives a model's spec by its key.
            load: Loads a model.
            refresh_seconds: How long a resolved release is used without a look at the alias.
        """
        self._store = store
        self._alias = alias
        self._find_spec = find_spec
        self._load = load
        self._refresh_seconds = refresh_seconds
        self._lock = Lock()
        self._serving: Serving | None = None
        self._looked_at = 0.0
        self._encoders: dict[str, Future[Embedder]] = {}  # by signature, the last used last
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load-model")

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
            refresh_seconds=settings.search_refresh_seconds,
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
            Hits, best first, each with document, heading, text, score and offsets. The score is
            the similarity, or with hybrid search the sum of reciprocal ranks.

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
        serving = self._current()
        try:
            return self._search(serving, question, limit, document_prefix)
        except CollectionMissingError:  # retired since it was resolved
            return self._search(self._replaced(), question, limit, document_prefix)

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
        self._loader.shutdown(cancel_futures=True)
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

    def _search(
        self, serving: Serving, question: str, limit: int, document_prefix: str | None
    ) -> list[Hit]:
        return search_collection(
            self._store,
            serving.release.collection,
            serving.encoder,
            question,
            limit,
            document_prefix=document_prefix,
        )

    def _current(self) -> Serving:
        """Return what to answer from, after a look at the alias if that is due.

        One query looks; the others go on meanwhile.
        """
        serving = self._serving
        if serving is None:
            with self._lock:
                return self._serving or self._serve(self.release())
        due = monotonic() - self._looked_at >= self._refresh_seconds
        if due and self._lock.acquire(blocking=False):
            try:
                return self._followed(serving)
            finally:
                self._lock.release()
        return serving

    def _replaced(self) -> Serving:
        """Return what is live now, once its encoder is loaded."""
        with self._lock:
            return self._serve(self.release())

    def _followed(self, serving: Serving) -> Serving:
        """Return what the alias names if its encoder is warm, else what served until now.

        As long as that can be answered from, an alias that leads nowhere stops no query.
        """
        self._looked_at = monotonic()
        try:
            if self._store.alias_target(self._alias) == serving.release.collection:
                return serving
            release = self.release()
            return self._serve(release) if self._warm(release.spec).done() else serving
        except RagAssetsError as error:
            logger.warning("Queries go on from %s. %s", serving.release.collection, error)
            return serving

    def _serve(self, release: Release) -> Serving:
        self._serving = Serving(release, self._warm(release.spec).result())
        self._looked_at = monotonic()
        return self._serving

    def _warm(self, spec: ModelSpec) -> Future[Embedder]:
        """Return the model, perhaps still being loaded.

        Raises:
            ConfigurationError: It could not be loaded; the next look tries again.
        """
        loading = self._encoders.pop(spec.signature, None) or self._loader.submit(self._load, spec)
        if loading.done():
            loading.result()
        self._encoders[spec.signature] = loading
        for signature in list(self._encoders)[:-ENCODERS]:
            del self._encoders[signature]
        return loading


def search_collection(
    store: MilvusStore,
    collection: str,
    encoder: Embedder,
    question: str,
    limit: int,
    *,
    document_prefix: str | None = None,
) -> list[Hit]:
    """Answer a question from one collection, as its model searches: densely, or hybrid.

    Args:
        store: The connection to Milvus.
        collection: The physical collection.
        encoder: The model that filled it.
        question: In the user's words.
        limit: The most hits to return.
        document_prefix: Only documents whose id starts with this.
    """
    encoded = encoder.encode_queries([question])
    sparse = question if encoder.spec.sparse is Sparse.BM25 else _first(encoded)
    return store.search(
        collection, encoded.dense[0], limit, sparse=sparse, document_prefix=document_prefix
    )


def _first(encoded: Encoded) -> dict[int, float] | None:
    return dict(encoded.sparse[0]) if encoded.sparse else None
