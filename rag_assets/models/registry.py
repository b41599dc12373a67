"""The registry of models, stored in the lake; Milvus's alias determines which model is live.

What belongs here: reading and changing the registry. What does not: which change is allowed
(`core/models/lifecycle.py`), and its other effects (`models/lifecycle.py`).
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.lifecycle import ModelRecord, Registry, Role
from rag_assets.core.names import Job
from rag_assets.core.tables import MODELS, content_version
from rag_assets.pipeline.collection import ModelCollection
from rag_assets.pipeline.index import Index

logger = logging.getLogger(__name__)

_KEY = PartitionKey("models", "registry")


def read_records(lake: Lake) -> Registry:
    """Read the registry without asking Milvus which model is live.

    This is enough to know which models are maintained: the live one appears as a candidate.
    """
    return _registry(lake.read(_KEY, MODELS))


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
        """Return the current registry; the alias determines which model is live."""
        return self._opened(self.index.lake.read(_KEY, MODELS))

    def change(self, move: Callable[[Registry], Registry]) -> Registry:
        """Apply a move, retrying on conflict with another writer, and return the new registry.

        Idempotent if the move is: nothing is written if nothing changes.
        """
        return self.index.lake.update(lambda: self._change_once(move))

    def _change_once(self, move: Callable[[Registry], Registry]) -> Registry:
        actual = self.index.lake.read(_KEY, MODELS)
        changed = move(self._opened(actual))
        records = [asdict(record) for record in changed.records.values()]
        table = pl.DataFrame(records, schema=MODELS)
        if not table.equals(actual.table):
            meta = Meta(content_version(table, MODELS), code_version="")
            self.index.lake.commit(_KEY, table, meta, actual.token)
        return changed

    def _opened(self, actual: Partition) -> Registry:
        records = _registry(actual)
        name = self.index.store.alias_target(self.index.alias)
        if name is None:
            return records
        properties = self.index.store.info(name).properties
        return records.adopting(properties.get("model", name), properties.get("signature", ""))


def _registry(actual: Partition) -> Registry:
    return Registry({row["key"]: ModelRecord(**row) for row in actual.table.iter_rows(named=True)})
