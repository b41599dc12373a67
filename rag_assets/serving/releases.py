"""What queries are answered from: alias → release → the live model's encoder.

What belongs here: following the alias, and keeping encoders loaded. What does not: which model is
live (`models/promotion.py`), and answering a question (`searcher.py`).
"""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from time import monotonic

from rag_assets.adapters.embedders.embedder import Embedder
from rag_assets.adapters.milvus.collections import LIVE_SINCE, PERMISSIONS, CollectionInfo
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.errors import (
    ConfigurationError,
    NotLiveError,
    NotLiveYetError,
    RagAssetsError,
    SearchError,
)
from rag_assets.core.models.spec import ModelSpec
from rag_assets.serving.conditions import OFF
from rag_assets.serving.encoder import QueryEncoder
from rag_assets.serving.stages import Stages

logger = logging.getLogger(__name__)

NEVER = ""  # the property `live_since` of a collection that never was live
ENCODERS = 2  # kept loaded: that of the live model and, for a rollback, of the previous one


@dataclass(frozen=True, slots=True)
class Release:
    """What queries are answered from: a physical collection and the model it was built with.

    Attributes:
        collection: The physical collection.
        spec: The model.
        visibility: Whether the collection was built for permissions, and their default.
        live_since: When its model was made live, in ISO 8601; empty if that is not recorded.
    """

    collection: str
    spec: ModelSpec
    visibility: str = OFF
    live_since: str = ""


@dataclass(frozen=True, slots=True)
class Serving:
    """A release with its own encoder."""

    release: Release
    encoder: QueryEncoder


class Releases:
    """Resolves the release to answer from, and loads its encoder. Thread-safe.

    After the alias has moved, queries are answered from the old release until the new encoder is
    loaded, so that no query waits for it. The old encoder stays loaded for a rollback.
    """

    def __init__(
        self,
        store: MilvusStore,
        alias: str,
        find_spec: Callable[[str], ModelSpec],
        load: Callable[[ModelSpec], Embedder],
        *,
        refresh_seconds: float,
        stages: Stages,
    ) -> None:
        self._store = store
        self._alias = alias
        self._find_spec = find_spec
        self._load = load
        self._refresh_seconds = refresh_seconds
        self._stages = stages
        self._lock = Lock()
        self._serving: Serving | None = None
        self._checked_at = 0.0
        self._encoders: dict[str, Future[QueryEncoder]] = {}  # by signature, latest used last
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="load-model")

    @property
    def serving(self) -> Serving | None:
        """What the latest query was answered from; None before the first one."""
        return self._serving

    def live(self) -> Release:
        """Resolve the live release.

        If the alias is missing, or points to a collection that no model was built for, another
        client has changed it. Until that is repaired, the fullest collection of this alias serves:
        that of the live or the previous model, rather than one that is being filled again.

        Raises:
            NotLiveError: Nothing is live, or the collection was built from another spec.
            ConfigurationError: Its model is not in the models file.
        """
        target = self._store.alias_target(self._alias)
        return self._named(target) or self._fallback(target)

    def collections(self) -> list[Release]:
        """Return the releases of all collections of this alias that can be searched.

        One that is not loaded is loaded by its first search: a server may forget, as it restarts.
        """
        return [release for _, release in self._indexed()]

    def of_collection(self, name: str) -> Serving:
        """Return the release of one collection of this alias, live or not, with its encoder.

        Raises:
            SearchError: There is no such collection, or it cannot be searched.
        """
        ours = name.startswith(f"{self._alias}__") and self._store.exists(name)
        release = self._release_of(self._store.info(name)) if ours else None
        if release is None:
            known = ", ".join(one.collection for one in self.collections()) or "none"
            raise SearchError(f"There is no collection {name!r} to search; there are: {known}.")
        with self._lock:
            loading = self._warm(release.spec)
        return Serving(release, loading.result())

    def current(self) -> Serving:
        """Return the release to answer from, after a check of the alias if that is due.

        One query checks it; the others go on in the meantime.
        """
        serving = self._serving
        if serving is None:
            with self._lock:
                return self._serving or self._serve(self.live())
        due = monotonic() - self._checked_at >= self._refresh_seconds
        if due and self._lock.acquire(blocking=False):
            try:
                return self._refresh(serving)
            finally:
                self._lock.release()
        return serving

    def resolve_again(self) -> Serving:
        """Return the release that is live now, whatever was answered from so far."""
        with self._lock:
            return self._serve(self.live())

    def close(self) -> None:
        """Stop loading encoders."""
        self._loader.shutdown(cancel_futures=True)

    def _named(self, target: str | None) -> Release | None:
        """Return the release of the collection that the alias names; None if it is not ours."""
        properties = self._store.info(target).properties if target else {}
        if target is None or not properties.get("model"):
            return None
        spec = self._find_spec(properties["model"])
        if properties.get("signature") != spec.signature:
            raise NotLiveError(
                f"Collection {target} was built from another spec of {spec.key} than the one in"
                " the models file, so its vectors cannot be compared with this encoder's. Use the"
                " models file that the collection was built with."
            )
        visibility, since = properties.get(PERMISSIONS, OFF), properties.get(LIVE_SINCE, "")
        return Release(target, spec, visibility, since)

    def _fallback(self, target: str | None) -> Release:
        """Return the release of the collection with most rows; of equal ones, the oldest.

        The oldest, because a candidate that has not been evaluated is newer than what was live. One
        that never was live serves only if queries have been answered so far: while the first model
        is built, nothing is live yet.

        Raises:
            NotLiveError: There is none.
            NotLiveYetError: Nor has anything been live.
        """
        problem = self._problem(target)
        found = [
            (-self._store.count(info.name), info.created, release)
            for info, release in self._indexed()
            if info.loaded and (self._serving or info.properties.get(LIVE_SINCE) != NEVER)
        ]
        rows, _, fullest = min(found, key=lambda one: one[:2], default=(0, 0, None))
        if not rows or fullest is None:
            kind = NotLiveError if target or self._been_live() else NotLiveYetError
            raise kind(
                f"Nothing is live: {problem}. Materialise live_alias, or set RAG_ASSETS_ALIAS to"
                " the alias in use."
            )
        name = fullest.collection
        logger.error("Answering from %s (%d rows), because %s.", name, -rows, problem)
        return fullest

    def _been_live(self) -> bool:
        names = (name for name in self._store.collections() if name.startswith(f"{self._alias}__"))
        return any(self._store.info(name).properties.get(LIVE_SINCE) for name in names)

    def _indexed(self) -> list[tuple[CollectionInfo, Release]]:
        return [
            (info, release)
            for name in self._store.collections()
            if name.startswith(f"{self._alias}__")
            if (info := self._store.info(name)).indexed
            if (release := self._release_of(info)) is not None
        ]

    def _problem(self, target: str | None) -> str:
        if target is None:
            return f"there is no alias {self._alias!r}"
        return f"the alias {self._alias!r} points to {target!r}, which no model was built for"

    def _release_of(self, info: CollectionInfo) -> Release | None:
        """Return a collection's release, if it was built with the spec in the models file."""
        properties = info.properties
        try:
            spec = self._find_spec(properties.get("model", ""))
        except ConfigurationError:
            return None
        if properties.get("signature") != spec.signature:
            return None
        since = properties.get(LIVE_SINCE, NEVER)
        return Release(info.name, spec, properties.get(PERMISSIONS, OFF), since)

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
                raise NotLiveError(f"{self._problem(target)}.")
            return self._serve(release) if self._warm(release.spec).done() else serving
        except RagAssetsError as error:
            logger.warning("Still answering from %s: %s", serving.release.collection, error)
            return serving

    def _serve(self, release: Release) -> Serving:
        self._serving = Serving(release, self._warm(release.spec).result())
        self._checked_at = monotonic()
        return self._serving

    def _warm(self, spec: ModelSpec) -> Future[QueryEncoder]:
        """Return the model, which may still be loading.

        Raises:
            ConfigurationError: It could not be loaded; the next check retries.
        """
        loading = self._encoders.pop(spec.signature, None) or self._loader.submit(
            lambda: QueryEncoder(self._load(spec), self._stages)
        )
        if loading.done():
            loading.result()
        self._encoders[spec.signature] = loading
        for signature in list(self._encoders)[:-ENCODERS]:
            del self._encoders[signature]
        return loading
