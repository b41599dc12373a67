"""Where the models' records are kept: in the lake, beside Milvus's word on which one is live."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import polars as pl

from rag_assets.adapters.lake import Lake, Meta, Partition, PartitionKey
from rag_assets.adapters.milvus import MilvusStore
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.model_life import ModelRecord, Registry, Role
from rag_assets.core.tables import MODELS, content_version

_KEY = PartitionKey("models", "registry")


def read_records(lake: Lake) -> Registry:
    """Read the records alone, without asking Milvus which model is live.

    Enough to know which models are fed: a live one is among the candidates then.
    """
    return _registry(lake.read(_KEY, MODELS))


def require_fed(lake: Lake, model: str) -> None:
    """Refuse to write a model's vectors or rows if nobody asked for its collection.

    Raises:
        ConfigurationError: It is not registered, not built, or retired.
    """
    records = read_records(lake)
    if model not in records.fed:
        role = records.role(model) or "not registered"
        step = "build_model" if role is Role.REGISTERED else "register_model, then build_model"
        raise ConfigurationError(f"{model} is {role}, so nothing is embedded for it: run {step}.")


@dataclass(frozen=True, slots=True)
class ModelRegistry:
    """The records of one platform's models, changed by compare-and-swap."""

    lake: Lake
    store: MilvusStore
    alias: str

    def read(self) -> Registry:
        """Return the registry as it is now; the alias says which model is live."""
        return self._opened(self.lake.read(_KEY, MODELS))

    def change(self, move: Callable[[Registry], Registry]) -> Registry:
        """Apply a move, again from the start whenever somebody else was first; return the result.

        Idempotent if the move is: nothing is written where nothing changes.
        """
        return self.lake.update(lambda: self._change_once(move))

    def _change_once(self, move: Callable[[Registry], Registry]) -> Registry:
        held = self.lake.read(_KEY, MODELS)
        changed = move(self._opened(held))
        records = [asdict(record) for record in changed.records.values()]
        table = pl.DataFrame(records, schema=MODELS)
        if not table.equals(held.table):
            meta = Meta(content_version(table, MODELS), code_version="")
            self.lake.commit(_KEY, table, meta, held.token)
        return changed

    def _opened(self, held: Partition) -> Registry:
        records = _registry(held)
        name = self.store.alias_target(self.alias)
        if name is None:
            return records
        properties = self.store.info(name).properties
        return records.adopting(properties.get("model", name), properties.get("signature", ""))


def _registry(held: Partition) -> Registry:
    return Registry({row["key"]: ModelRecord(**row) for row in held.table.iter_rows(named=True)})
