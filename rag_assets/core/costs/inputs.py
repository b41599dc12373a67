"""The cost model's inputs: workload, prices, timings and platform, each with its unit.

The defaults are the reference case. Prices and rates among them are examples: rates are replaced
by those that an instance has measured, prices have to be replaced by one's own.
"""

from collections.abc import Iterator, Mapping
from math import exp
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from rag_assets.core.errors import ConfigurationError


def _input(default: float, unit: str, description: str, **bounds: Any) -> Any:
    return Field(
        default,
        description=description,
        json_schema_extra={"unit": unit},
        allow_inf_nan=False,
        **(bounds or {"gt": 0}),
    )


class _Inputs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Workload(_Inputs):
    """The documents that arrive.

    Single documents arrive one by one at random times (Poisson); so do uploads, each with all its
    documents at once. Document sizes are lognormal.
    """

    documents_a_day: float = _input(
        10_000, "documents/day", "Number of new or changed documents per day."
    )
    bulk_share: float = _input(0.9, "", "Share of documents that arrive in uploads.", ge=0, le=1)
    uploads_a_day: float = _input(
        4, "uploads/day", "Number of uploads per day that make up this share."
    )
    chunks_a_document: float = _input(
        10, "chunks/document", "Mean number of chunks per document to embed."
    )
    chunk_spread: float = _input(
        1.0,
        "",
        "Standard deviation of the natural logarithm of a document's number of chunks.",
        ge=0,
        le=3,
    )
    tokens_a_chunk: float = _input(250, "tokens/chunk", "Mean number of tokens per chunk.")

    @property
    def tokens_a_document(self) -> float:
        """Mean tokens per document."""
        return self.chunks_a_document * self.tokens_a_chunk

    @property
    def size_variance(self) -> float:
        """A document size's variance divided by its squared mean; lognormal: e^(σ²) - 1."""
        return exp(self.chunk_spread**2) - 1

    @property
    def uploads(self) -> float:
        """Uploads per day with at least one document."""
        return min(self.uploads_a_day, self.documents_a_day * self.bulk_share)

    @property
    def upload(self) -> float:
        """Documents per upload; 0 without uploads."""
        return self.documents_a_day * self.bulk_share / self.uploads if self.uploads else 0.0

    @property
    def singles(self) -> float:
        """Single documents per day."""
        return self.documents_a_day * (1 - self.bulk_share)


class Prices(_Inputs):
    """Example prices in dollars: replace them with those of your contract."""

    gpu_hour: float = _input(0.80, "$/hour", "Price of a pod with an L4-class GPU.", ge=0)
    cpu_hour: float = _input(0.10, "$/hour", "Price of a pod with 2 CPUs.", ge=0)
    stream_pod_hour: float = _input(
        0.05,
        "$/hour",
        "Price of the standing stream run's pod, with what it has of a GPU. Here 1 CPU and 4 GiB:"
        " half of a pod with 2 CPUs.",
    )
    get_requests: float = _input(0.0004, "$/1,000", "Price of read requests to S3.", ge=0)
    put_requests: float = _input(0.005, "$/1,000", "Price of write and list requests to S3.", ge=0)
    milvus_hour: float = _input(0.40, "$/hour", "Price of a Milvus query node.", ge=0)


class Timings(_Inputs):
    """How long each step takes, and how fast a GPU is with one document and with many."""

    notice_s: float = _input(3, "s", "Time until a sensor notices a change.", ge=0)
    run_start_s: float = _input(8, "s", "Time to start a run on a CPU pod (billed).", ge=0)
    parse_s: float = _input(
        0.5, "s/document", "Time of a CPU pod to parse and chunk a document.", ge=0
    )
    cold_start_s: float = _input(
        120, "s", "Time from the request for a GPU pod until it is up (billed).", ge=0
    )
    idle_s: float = _input(
        300, "s", "Maximum idle time of a GPU pod for stream runs before it shuts down.", ge=0
    )
    gpu_run_start_s: float = _input(
        15,
        "s",
        "Time to start a run on a GPU pod that is up: process and model; 0 with an embedding"
        " server.",
        ge=0,
    )
    stream_tokens_s: float = _input(
        3_000, "tokens/s", "Throughput of a GPU with one document at a time."
    )
    bulk_tokens_s: float = _input(15_000, "tokens/s", "Throughput of a GPU with many documents.")
    stream_idle_seconds: float = _input(
        600, "s", "How long the standing stream run stays without a change; 0: always.", ge=0
    )
    stream_change_seconds: float = _input(
        0.2,
        "s/document",
        "CPU time of the standing stream run per changed document, with parsing; without embedding,"
        " unless its own CPUs do that.",
    )


class Platform(_Inputs):
    """The platform's configuration, and its requests to S3."""

    shards: int = _input(16, "shards", "Number of shards in the lake.")
    shards_per_run: int = _input(64, "shards", "Maximum shards per bulk run.")
    stream_documents: int = _input(
        100,
        "documents",
        "Maximum documents in an upload for hybrid to stream it, as one run.",
        ge=0,
    )
    stream_run: bool = Field(
        default=True,
        description="Whether hybrid streams by a standing run (1), or starts stream runs (0).",
        json_schema_extra={"unit": ""},
    )
    batches_a_day: float = _input(1, "batches/day", "Number of batches per day under pure batch.")
    max_load: float = _input(
        0.8,
        "",
        "Maximum load of a GPU pod for stream runs before another is added, and of"
        " the standing run before bulk runs take the rest.",
        gt=0,
        lt=1,
    )
    replicas: int = _input(1, "query nodes", "Number of query nodes that hold the collection.")
    shard_gets: float = _input(
        38, "requests", "Number of read requests per shard, both stages together.", ge=0
    )
    shard_puts: float = _input(
        16,
        "requests",
        "Number of write and list requests per shard, both stages together.",
        ge=0,
    )


class Case(_Inputs):
    """All inputs of the model."""

    workload: Workload = Workload()
    prices: Prices = Prices()
    timings: Timings = Timings()
    platform: Platform = Platform()

    def having(self, values: Mapping[str, Any]) -> Self:
        """Return the case with some values replaced, by input name.

        Raises:
            ConfigurationError: An input is unknown, or a value is out of bounds.
        """
        parts = {name: dict(getattr(self, name)) for name in type(self).model_fields}
        homes = {name: part for part, names in parts.items() for name in names}
        if unknown := sorted(values.keys() - homes.keys()):
            raise ConfigurationError(
                f"The cost model has no input {', '.join(unknown)}; it has {', '.join(homes)}."
            )
        for name, value in values.items():
            parts[homes[name]][name] = value
        try:
            return self.model_validate(parts)
        except ValidationError as error:
            wrong = [f"{one['loc'][-1]}: {one['msg']}" for one in error.errors()]
            raise ConfigurationError(f"Cost model: {'; '.join(wrong)}.") from error

    def value(self, name: str) -> float:
        """Return an input's value."""
        return next(float(value) for part in self for key, value in part[1] if key == name)


def inputs() -> Iterator[tuple[str, str, FieldInfo, str]]:
    """Yield the part, name, field and unit of each input."""
    for part, model in Case.model_fields.items():
        for name, field in type(model.default).model_fields.items():
            extra = field.json_schema_extra
            yield part, name, field, str(extra["unit"]) if isinstance(extra, dict) else ""
