"""What the cost model is told: workload, prices, timings, platform; each with its unit.

The defaults are the reference case. Prices and rates among them are examples: rates are replaced
by those that this instance has measured, prices have to be replaced by one's own.
"""

from collections.abc import Iterator, Mapping
from math import exp
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from rag_assets.core.errors import ConfigurationError


def _input(default: float, unit: str, says: str, **bounds: Any) -> Any:
    return Field(
        default,
        description=says,
        json_schema_extra={"unit": unit},
        allow_inf_nan=False,
        **(bounds or {"gt": 0}),
    )


class _Inputs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Workload(_Inputs):
    """What comes in.

    Single documents come one by one, at random (Poisson); uploads too, each with all its documents
    at once. Sizes are lognormal.
    """

    documents_a_day: float = _input(10_000, "documents/day", "New or changed documents.")
    bulk_share: float = _input(0.9, "", "Share of them that comes in uploads.", ge=0, le=1)
    uploads_a_day: float = _input(4, "uploads/day", "Uploads that bring this share.")
    chunks_a_document: float = _input(10, "chunks/document", "Mean number of chunks to embed.")
    chunk_spread: float = _input(
        1.0, "", "Spread of that: standard deviation of its natural logarithm.", ge=0, le=3
    )
    tokens_a_chunk: float = _input(250, "tokens/chunk", "Mean size of a chunk.")

    @property
    def tokens_a_document(self) -> float:
        """The mean."""
        return self.chunks_a_document * self.tokens_a_chunk

    @property
    def size_variance(self) -> float:
        """Variance of a document's size by the square of its mean: of a lognormal, e^(σ²) - 1."""
        return exp(self.chunk_spread**2) - 1

    @property
    def uploads(self) -> float:
        """Uploads a day that have at least one document."""
        return min(self.uploads_a_day, self.documents_a_day * self.bulk_share)

    @property
    def upload(self) -> float:
        """Documents in one upload; 0 if there are none."""
        return self.documents_a_day * self.bulk_share / self.uploads if self.uploads else 0.0

    @property
    def singles(self) -> float:
        """Single documents a day."""
        return self.documents_a_day * (1 - self.bulk_share)


class Prices(_Inputs):
    """Examples, in dollars: replace them by those of your contract."""

    gpu_hour: float = _input(0.80, "$/hour", "A pod with a GPU of the class of an L4.", ge=0)
    cpu_hour: float = _input(0.10, "$/hour", "A pod with 2 CPUs.", ge=0)
    get_requests: float = _input(0.0004, "$/1,000", "Reading from S3.", ge=0)
    put_requests: float = _input(0.005, "$/1,000", "Writing to S3.", ge=0)
    milvus_hour: float = _input(0.40, "$/hour", "A query node of Milvus.", ge=0)


class Timings(_Inputs):
    """How long things take, and how fast a GPU is with a few texts and with many."""

    notice_s: float = _input(3, "s", "Until a sensor has seen a change.", ge=0)
    run_start_s: float = _input(8, "s", "A run's start on a CPU pod, paid for.", ge=0)
    parse_s: float = _input(0.5, "s/document", "A CPU pod's time to parse and cut it.", ge=0)
    cold_start_s: float = _input(120, "s", "Until a GPU pod that was asked for is up, paid.", ge=0)
    idle_s: float = _input(300, "s", "A GPU pod for stream runs ends so long after its last.", ge=0)
    gpu_run_start_s: float = _input(
        15,
        "s",
        "A run's start on a GPU pod that is up: process, loading the model; 0 with an embedding"
        " server.",
        ge=0,
    )
    stream_tokens_s: float = _input(3_000, "tokens/s", "A GPU's rate with one document.")
    bulk_tokens_s: float = _input(15_000, "tokens/s", "A GPU's rate with many.")


class Platform(_Inputs):
    """How this platform is set up, and what it asks of S3."""

    shards: int = _input(16, "shards", "Of the lake.")
    shards_per_run: int = _input(64, "shards", "In one bulk run, at the most.")
    stream_documents: int = _input(
        100, "documents", "In hybrid, an upload of so many streams, as one run.", ge=0
    )
    batches_a_day: float = _input(1, "batches/day", "Of pure batch.")
    max_load: float = _input(
        0.8, "", "Stream runs get another GPU pod if those there are were busier.", gt=0, lt=1
    )
    replicas: int = _input(1, "query nodes", "That have the collection.")
    shard_gets: float = _input(12, "requests", "Reading one shard in both hops.", ge=0)
    shard_puts: float = _input(5, "requests", "Writing one shard in both hops.", ge=0)


class Case(_Inputs):
    """Everything the model is told."""

    workload: Workload = Workload()
    prices: Prices = Prices()
    timings: Timings = Timings()
    platform: Platform = Platform()

    def having(self, values: Mapping[str, Any]) -> Self:
        """Return the case with other values.

        Args:
            values: By the inputs' names, whichever part they belong to.

        Raises:
            ConfigurationError: There is no such input, or a value is out of its bounds.
        """
        parts = {name: dict(getattr(self, name)) for name in type(self).model_fields}
        homes = {name: part for part, held in parts.items() for name in held}
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
    """Yield each input's part, name, field and unit."""
    for part, model in Case.model_fields.items():
        for name, field in type(model.default).model_fields.items():
            extra = field.json_schema_extra
            yield part, name, field, str(extra["unit"]) if isinstance(extra, dict) else ""
