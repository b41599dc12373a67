"""The registry of models, stored in the lake; Milvus's alias determines which model is live.

What belongs here: reading and changing the registry. What does not: which change is allowed
(`core/models/lifecycle.py`), and its other effects (`models/lifecycle.py`).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.adapters.objects.object_store import StoredObject
from rag_assets.core.errors import ConfigurationError, LakeError
from rag_assets.core.models.lifecycle import ModelRecord, Registry, Role
from rag_assets.core.models.live import Alias
from rag_assets.core.models.spec import ModelSpec
from rag_assets.core.names import Job
from rag_assets.core.tables import MODELS, content_version, empty
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.index import Index
from rag_assets.pipeline.vectors import ModelRun

logger = logging.getLogger(__name__)

_KEY = PartitionKey("models", "registry")


def read_records(lake: Lake) -> Registry:
    """Read the registry without asking Milvus which model is live.

    This is enough to know which models are maintained: the live one appears as a candidate.
    """
    return _registry(lake.read(_KEY, MODELS))


def model_run(index: Index, spec: ModelSpec) -> ModelRun:
    """Return what embeds with a model, and reuses vectors of those of the same signature."""
    same = read_records(index.lake).same_signature(spec.key, spec.signature)
    return ModelRun(index, spec, same)


def maintained_collections(index: Index) -> Iterator[ModelCollection]:
    """Yield the collection of each maintained model; a model without a spec is skipped."""
    for model in read_records(index.lake).maintained:
        try:
            yield ModelCollection.of(index, model)
        except ConfigurationError as error:
            logger.warning("%s is skipped: %s", model, error)


def require_maintained(lake: Lake, model: str) -> None:
    """Refuse to write vectors or rows for a model that is not maintained.

    Raises:
        ConfigurationError: It is not registered, not built, or retired.
    """
    records = read_records(lake)
    if model not in records.maintained:
        role = records.role(model) or "not registered"
        step = Job.BUILD_MODEL
        if role is not Role.REGISTERED:
            step = f"{Job.REGISTER_MODEL}, then {Job.BUILD_MODEL}"
        raise ConfigurationError(f"{model} is {role}, so nothing is embedded for it: run {step}.")


@dataclass(frozen=True, slots=True)
class ModelRegistry:
    """The registry of one platform's models, changed by compare-and-swap."""

    index: Index

    def read(self) -> Registry:
        """Return the current registry; the alias determines which model is live.

        If there are no records, or they are damaged, the collections in Milvus are what is known.
        """
        return self._opened(self._stored())

    def alias(self) -> Alias:
        """Return the live alias and what it points to.

        Raises:
            VectorStoreError: Milvus is unreachable.
        """
        name, store = self.index.alias, self.index.store
        target = store.alias_target(name)
        if target is None:
            return Alias(name)
        model, signature = self._owner(target)
        return Alias(name, target, model, signature)

    def recover(self, been_live: Sequence[str] = ()) -> Registry:
        """Write lost or damaged records anew, from the collections in Milvus and the alias.

        Changes nothing if the records are intact.

        Args:
            been_live: Keys of the models that are known to have been live, the latest last.

        Raises:
            VectorStoreError: Milvus is unreachable.
        """
        return self.change(lambda now: now if self.intact else now.having_been_live(been_live))

    @property
    def intact(self) -> bool:
        """Whether the lake has records that can be read."""
        return self._stored().meta is not None

    def change(self, move: Callable[[Registry], Registry]) -> Registry:
        """Apply a move, retrying on conflict with another writer, and return the new registry.

        Idempotent if the move is: nothing is written if nothing changes.
        """
        return self.index.lake.update(lambda: self._change_once(move))

    def _change_once(self, move: Callable[[Registry], Registry]) -> Registry:
        actual = self._stored()
        changed = move(self._opened(actual))
        records = [asdict(record) for record in changed.records.values()]
        table = pl.DataFrame(records, schema=MODELS)
        if not table.equals(actual.table):
            meta = Meta(content_version(table, MODELS), code_version="")
            self.index.lake.commit(_KEY, table, meta, actual.token)
        return changed

    def _stored(self) -> Partition:
        """Read the records; damaged ones are read as none, to be replaced by their token."""
        try:
            return self.index.lake.read(_KEY, MODELS)
        except LakeError as error:
            if not isinstance(error.__cause__, pl.exceptions.PolarsError):
                raise  # it may well be intact: the store is down, or a newer release wrote it
            logger.warning("The registry of models is read from Milvus instead. %s", error)
            token = self.index.lake.token(_KEY)
            return Partition(empty(MODELS), None, StoredObject(b"", token) if token else None)

    def _opened(self, actual: Partition) -> Registry:
        registry, alias = _registry(actual), self.alias()
        if actual.meta is None:
            for name in self.index.store.collections():
                model, signature = self._owner(name)
                if model:
                    registry = registry.knowing(model, signature)
        return registry.adopting(alias.model, alias.signature) if alias.model else registry

    def _owner(self, collection: str) -> tuple[str | None, str]:
        """Return model and signature of a collection; no model if it is not this platform's."""
        if not collection.startswith(f"{self.index.alias}__"):
            return None, ""
        try:
            properties = self.index.store.info(collection).properties
        except CollectionMissingError:  # dropped in the meantime
            return None, ""
        model = properties.get("model", "")
        ours = properties.get("source") == self.index.source
        ours = ours and collection == self.index.collection_name(model)
        return (model, properties.get("signature", "")) if ours else (None, "")


def _registry(actual: Partition) -> Registry:
    return Registry({row["key"]: ModelRecord(**row) for row in actual.table.iter_rows(named=True)})
