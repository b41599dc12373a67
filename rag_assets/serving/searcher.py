"""The query side: alias → release → the live model's encoder → its physical collection.

What belongs here: answering a question, and following the alias. What does not: which model is live
(`models/promotion.py`), and requests to Milvus (`adapters/milvus/`).
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from time import monotonic
from typing import Self

from rag_assets.adapters.embedders.embedder import Embedder, load_embedder
from rag_assets.adapters.milvus.collections import PERMISSIONS, CollectionInfo
from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.adapters.milvus.rows import Hit
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.adapters.yaml_files import find_model_spec, read_metadata_rules
from rag_assets.core.documents.text import is_text, normalise
from rag_assets.core.errors import ConfigurationError, RagAssetsError, SearchError
from rag_assets.core.metadata.filters import Filter
from rag_assets.core.models.spec import ModelSpec, Sparse
from rag_assets.core.models.vectors import SparseVector
from rag_assets.serving.conditions import OFF, search_condition
from rag_assets.settings import Settings, load_settings

logger = logging.getLogger(__name__)

ENCODERS = 2  # kept loaded: that of the live model and, for a rollback, of the previous one


@dataclass(frozen=True, slots=True)
class Release:
    """What queries are answered from: a physical collection and the model it was built with.

    Attributes:
        collection: The physical collection.
        spec: The model.
        visibility: Whether the collection was built for permissions, and their default.
    """

    collection: str
    spec: ModelSpec
    visibility: str = OFF


@dataclass(frozen=True, slots=True)
class Serving:
    """A release with its own encoder."""

    release: Release
    encoder: Embedder


@dataclass(frozen=True, slots=True)
class Question:
    """What one call of `search` asks."""

    text: str
    limit: int
    document_prefix: str | None
    where: Filter | str | None
    principals: Sequence[str] | None


class Searcher:
    """Answers questions from the live collection. Thread-safe; close it after use.

    A query is answered from one release, resolved before it begins: the release's own encoder
    encodes the question, and the search names the release's physical collection. So while the alias
    moves, a query never searches one model's collection with another model's vector.

    After the alias has moved, queries are answered from the old release until the new encoder is
    loaded, so that no query waits for it. The old encoder stays loaded for a rollback.
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
        """Answer from the collection that `alias` names.

        Models' specs are found by key. `refresh_seconds` is the minimum interval between checks of
        the alias.
        """
        self._store = store
        self._alias = alias
        self._find_spec = find_spec
        self._load = load
        self._refresh_seconds = refresh_seconds
        self._lock = Lock()
        self._serving: Serving | None = None
        self._checked_at = 0.0
        self._encoders: dict[str, Future[Embedder]] = {}  # by signature, most recently used last
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load-model")

    @classmethod
    def open(cls, settings: Settings | None = None) -> Self:
        """Connect with the given settings, or those of the environment.

        Raises:
            VectorStoreError: Milvus is unreachable.
        """
        settings = settings or load_settings()
        key = settings.embedding_api_key.get_secret_value()
        return cls(
            MilvusStore.connect(
                settings.milvus_uri,
                token=settings.milvus_token.get_secret_value(),
                rules=read_metadata_rules(settings.metadata_file),
            ),
            settings.alias,
            lambda model: find_model_spec(settings.models_file, model),
            lambda spec: load_embedder(spec, api_key=key, pickled_weights=settings.pickled_weights),
            refresh_seconds=settings.search_refresh_seconds,
        )

    def search(
        self,
        question: str,
        limit: int = 10,
        *,
        document_prefix: str | None = None,
        where: Filter | str | None = None,
        principals: Sequence[str] | None = None,
    ) -> list[Hit]:
        """Find the chunks that answer a question best.

        Args:
            question: In the user's words; not empty.
            limit: Maximum number of hits, from 1 to 1,000.
            document_prefix: Prefix of the ids of documents to search, for instance a folder.
            where: Filter on the documents' metadata: `F.department == "legal"`, or its text.
            principals: The user and groups who ask, compared exactly with those of documents.
                Required if permissions are on; if they are off, everyone sees all documents.

        Returns:
            Hits, best first, each with document, heading, text, score, offsets and metadata. The
            score is the similarity or, with hybrid search, the sum of reciprocal ranks.

        Raises:
            SearchError: Nothing is live, the question is empty, the live collection was built
                from another spec of its model, the filter is invalid, or permissions are on and
                `principals` is left out.
            ConfigurationError: The live model is unknown or cannot be loaded.
            VectorStoreError: Milvus is unreachable.
        """
        question = normalise(question)  # to the form of the documents' text
        if not question.strip():
            raise SearchError("The question is empty.")
        if not is_text(question):
            raise SearchError("The question is not valid text: it contains lone surrogates.")
        if not 1 <= limit <= 1000:  # noqa: PLR2004
            raise SearchError(f"limit must be from 1 to 1000, not {limit}.")
        serving = self._current()
        asked = Question(question, limit, document_prefix, where, principals)
        try:
            return self._search(serving, asked)
        except CollectionMissingError:  # dropped since it was resolved
            with self._lock:
                serving = self._serve(self.release())
            return self._search(serving, asked)

    def release(self) -> Release:
        """Resolve the live release.

        If the alias is missing, or points to a collection that no model was built for, another
        client has changed it. Until that is repaired, the fullest collection of this alias serves:
        that of the live or the previous model, rather than one that is being filled again.

        Raises:
            SearchError: Nothing is live, or the collection was built from another spec.
            ConfigurationError: Its model is not in the models file.
        """
        target = self._store.alias_target(self._alias)
        return self._named(target) or self._fallback(target)

    def _named(self, target: str | None) -> Release | None:
        """Return the release of the collection that the alias names; None if it is not ours."""
        properties = self._store.info(target).properties if target else {}
        if target is None or not properties.get("model"):
            return None
        spec = self._find_spec(properties["model"])
        if properties.get("signature") != spec.signature:
            raise SearchError(
                f"Collection {target} was built from another spec of {spec.key} than the one in"
                " the models file, so its vectors cannot be compared with this encoder's. Use the"
                " models file that the collection was built with."
            )
        return Release(target, spec, properties.get(PERMISSIONS, OFF))

    def _fallback(self, target: str | None) -> Release:
        """Return the release of the collection with most rows; of equal ones, the oldest.

        The oldest, because a candidate that has not been evaluated is newer than what was live.

        Raises:
            SearchError: There is none.
        """
        problem = f"there is no alias {self._alias!r}"
        if target:
            problem = (
                f"the alias {self._alias!r} points to {target!r}, which no model was built for"
            )
        found = [
            (-self._store.count(info.name), info.created, release)
            for name in self._store.collections()
            if name.startswith(f"{self._alias}__")
            if (info := self._store.info(name)).loaded and info.indexed
            if (release := self._release_of(info)) is not None
        ]
        rows, _, fullest = min(found, key=lambda one: one[:2], default=(0, 0, None))
        if not rows or fullest is None:
            raise SearchError(
                f"Nothing is live: {problem}. Materialise live_alias, or set RAG_ASSETS_ALIAS to"
                " the alias in use."
            )
        name = fullest.collection
        logger.error("Answering from %s (%d rows), because %s.", name, -rows, problem)
        return fullest

    def _problem(self, target: str | None) -> str:
        if target is None:
            return f"there is no alias {self._alias!r}"
        return f"the alias {self._alias!r} points to {target!r}, which is no model's collection"

    def _release_of(self, info: CollectionInfo) -> Release | None:
        """Return a collection's release, if it was built with the spec in the models file."""
        properties = info.properties
        try:
            spec = self._find_spec(properties.get("model", ""))
        except ConfigurationError:
            return None
        if properties.get("signature") != spec.signature:
            return None
        return Release(info.name, spec, properties.get(PERMISSIONS, OFF))

    def close(self) -> None:
        """Close the connection."""
        self._loader.shutdown(cancel_futures=True)
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _search(self, serving: Serving, question: Question) -> list[Hit]:
        store, release = self._store, serving.release
        columns = store.field_types(release.collection)
        condition = search_condition(
            store.rules, release.visibility, columns, question.where, question.principals
        )
        return search_collection(
            store,
            release.collection,
            serving.encoder,
            question.text,
            question.limit,
            document_prefix=question.document_prefix,
            condition=condition,
        )

    def _current(self) -> Serving:
        """Return the release to answer from, after a check of the alias if that is due.

        One query checks it; the others go on in the meantime.
        """
        serving = self._serving
        if serving is None:
            with self._lock:
                return self._serving or self._serve(self.release())
        due = monotonic() - self._checked_at >= self._refresh_seconds
        if due and self._lock.acquire(blocking=False):
            try:
                return self._refresh(serving)
            finally:
                self._lock.release()
        return serving

    def _refresh(self, serving: Serving) -> Serving:
        """Return the live release if its encoder is loaded, else the one that served so far.

        An alias that cannot be resolved stops no query while the old release can be searched.
        """
        self._checked_at = monotonic()
        try:
            target = self._store.alias_target(self._alias)
            if target == serving.release.collection:
                return serving
            release = self._named(target)
            if release is None:
                raise SearchError(f"{self._problem(target)}.")
            return self._serve(release) if self._warm(release.spec).done() else serving
        except RagAssetsError as error:
            logger.warning("Still answering from %s: %s", serving.release.collection, error)
            return serving

    def _serve(self, release: Release) -> Serving:
        self._serving = Serving(release, self._warm(release.spec).result())
        self._checked_at = monotonic()
        return self._serving

    def _warm(self, spec: ModelSpec) -> Future[Embedder]:
        """Return the model, which may still be loading.

        Raises:
            ConfigurationError: It could not be loaded; the next check retries.
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
    condition: str = "",
) -> list[Hit]:
    """Answer a question from one collection, by dense or hybrid search as its model specifies.

    The collection is a physical one, and the encoder the model it was built with. Who asks is part
    of the condition: without one, all documents are searched.
    """
    encoded = encoder.encode_queries([question])
    sparse: SparseVector | str | None = dict(encoded.sparse[0]) if encoded.sparse else None
    if encoder.spec.sparse is Sparse.BM25:
        sparse = question
    return store.search(
        collection,
        encoded.dense[0],
        limit,
        sparse=sparse,
        document_prefix=document_prefix,
        condition=condition,
    )
