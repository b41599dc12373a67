"""All settings, read from the environment when asked for, never at import.

Every setting is an environment variable: `RAG_ASSETS_` and the field's name in capitals.
Credentials of S3 come from the usual AWS variables, profiles and roles.
"""

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.identity import digest
from rag_assets.core.scheduling.bulk_window import BulkWindow

PREFIX = "RAG_ASSETS_"
RENAMED = {
    "list_every_seconds": "list_interval_seconds",
    "alert_every_seconds": "alert_interval_seconds",
    "retry_first_seconds": "retry_initial_seconds",
    "retry_longest_seconds": "retry_max_seconds",
    "gate_sampled": "gate_sampled_chunks",
    "gate_timed": "gate_timed_queries",
    "tiny_characters": "min_text_characters",
    "retrieval_recall": "min_retrieval_recall",
    "freshness_seconds": "max_lag_seconds",
    "quarantine_rate": "max_quarantine_rate",
    "grace_seconds": "retire_grace_seconds",
}
"""Settings of version 0.1 by their names of today: refused with the new name, never ignored."""

HIDDEN = ("source_options", "lake_options", "milvus_import_options", "events_options")
"""Settings that may hold secrets and whose values are not masked."""


class Settings(BaseSettings):
    """The settings of one platform: one source, one lake, one alias."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    home: Path = Field(
        default=Path(".rag-assets"),
        description="Where the embedded defaults keep their data: lake, Milvus Lite, Dagster.",
    )
    source_url: str = Field(
        default="",
        description="The bucket or folder to index, for instance s3://bucket/prefix."
        " Empty: the folder `documents` in home.",
    )
    source_options: dict[str, Any] = Field(
        default_factory=dict,
        description="fsspec options of the source, as JSON, for instance an endpoint_url.",
        repr=False,
    )
    include: list[str] = Field(
        default_factory=lambda: ["**"],
        description="Glob patterns of keys to index, as a JSON list.",
    )
    exclude: list[str] = Field(
        default_factory=lambda: [".*", "**/.*", "**/.*/**", "**/~$*"],
        description="Glob patterns of keys to leave out; by default hidden and lock files.",
    )
    max_document_bytes: int = Field(
        default=100_000_000, gt=0, description="Larger documents are quarantined as too_large."
    )
    shards: int = Field(
        default=8,
        gt=0,
        le=10_000,
        description="Number of shards; fixed once the lake is in use."
        " Aim at 500 to 2,000 documents a shard.",
    )
    shards_per_run: int = Field(
        default=64, gt=0, description="A backfill's run takes this many shards at the most."
    )
    lake_url: str = Field(
        default="", description="file:// or s3:// URL of the lake. Empty: `lake` in home."
    )
    lake_options: dict[str, Any] = Field(
        default_factory=dict, description="fsspec options of the lake, as JSON.", repr=False
    )
    milvus_uri: str = Field(default="http://127.0.0.1:19530", description="Where Milvus answers.")
    milvus_token: SecretStr = Field(
        default=SecretStr(""), description="user:password or API key of Milvus."
    )
    milvus_import_url: str = Field(
        default="",
        description="s3:// or file:// URL of a folder in the storage that Milvus itself has: the"
        " collection of a new model is then filled by Milvus's bulk import. Empty: by upserts.",
    )
    milvus_import_options: dict[str, Any] = Field(
        default_factory=dict,
        description="fsspec options of milvus_import_url, as JSON.",
        repr=False,
    )
    alias: str = Field(
        default="rag_assets",
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$",
        description="The Milvus alias that names the live collection, and the prefix of the"
        " collections' names. One for each source.",
    )
    models_file: Path = Field(
        default=Path(__file__).with_name("models.yaml"),
        description="The YAML file with the model specs.",
    )
    model: str = Field(
        default="wordllama-256-v1",
        description="The model registered and promoted first; later the alias decides.",
    )
    embedding_api_key: SecretStr = Field(
        default=SecretStr(""), description="Bearer token for OpenAI-compatible endpoints."
    )
    embedding_wait_seconds: float = Field(
        default=120,
        gt=0,
        description="A run waits so long for an embedding server that is down or limits the rate,"
        " then it ends and is asked for again.",
    )
    parse_workers: int = Field(default=2, gt=0, description="Parser processes a run.")
    parse_timeout_seconds: float = Field(
        default=120, gt=0, description="A document that takes longer is quarantined."
    )
    parse_memory_bytes: int = Field(
        default=2_000_000_000, gt=0, description="Memory limit of one parser process."
    )
    chunk_characters: int = Field(
        default=1000, gt=0, le=16_000, description="Upper bound of a chunk."
    )
    chunk_tokens: int = Field(
        default=384, gt=0, description="Upper bound of a chunk, by `tokenizer`."
    )
    tokenizer: str = Field(
        default="package:wordllama/tokenizers/l2_supercat_tokenizer_config.json",
        description="The tokenizer.json that counts tokens: a path, or package:MODULE/PATH.",
    )
    micro_batch: int = Field(
        default=256, gt=0, description="Texts embedded, or documents parsed, between checkpoints."
    )

    events_queue_url: str = Field(
        default="",
        description="Optional SQS queue of the bucket's event notifications: changes are found"
        " within one tick, without waiting for the next listing.",
    )
    events_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of botocore's SQS client, as JSON, for instance a region_name.",
        repr=False,
    )
    tick_seconds: int = Field(
        default=3, gt=0, description="The sensors look for changes this often, at the most."
    )
    list_objects: int = Field(
        default=100_000,
        gt=0,
        description="A tick lists so many objects at the most; the next one goes on from there.",
    )
    list_seconds: float = Field(
        default=20, gt=0, description="A tick spends so long on listing, at the most."
    )
    list_interval_seconds: float = Field(
        default=0,
        ge=0,
        description="A listing begins this long after the one before, at the earliest; and one"
        " that takes more than 2 s takes a tenth of the time, at the most.",
    )
    stream_documents: int = Field(
        default=100,
        ge=0,
        description="So many changed documents of a tick go out as stream runs, more as bulk runs.",
    )
    stream_chunks: int = Field(
        default=2_000, ge=0, description="The same for changed chunks in the second hop."
    )
    runs_per_lane: int = Field(
        default=4,
        gt=0,
        description="So many runs of a job and lane may be queued or started; further changes wait"
        " in the source.",
    )
    retry_initial_seconds: float = Field(
        default=20, gt=0, description="The wait after a first failed run; it doubles each time."
    )
    retry_max_seconds: float = Field(
        default=900, gt=0, description="The longest wait between two tries."
    )
    max_lag_seconds: float = Field(
        default=120,
        gt=0,
        description="The lag check warns if a changed document takes longer until it is found.",
    )
    search_refresh_seconds: float = Field(
        default=1.0,
        ge=0,
        description="A searcher looks so often whether another model has become live.",
    )
    replicas: int = Field(
        default=1,
        gt=0,
        description="In how many copies Milvus loads a collection once it is built; as many query"
        " nodes are needed.",
    )
    queries_file: Path | None = Field(
        default=None,
        description="Labelled queries that a model is judged by before it is made live: a YAML"
        " list of `question` and `documents`. None: questions drawn from the corpus.",
    )
    gate_margin: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="Recall, nDCG and MRR at 10 may be lower than the live model's by so much.",
    )
    gate_latency_factor: float = Field(
        default=2.0,
        gt=0,
        description="A query may take so many times what it takes with the live model (p95).",
    )
    gate_latency_seconds: float = Field(
        default=0.5, ge=0, description="A query may take so long in any case (p95)."
    )
    gate_sampled_chunks: int = Field(
        default=64, gt=0, description="Chunks that the gate embeds again to compare vectors."
    )
    gate_queries: int = Field(
        default=100, gt=0, description="Questions drawn from the corpus, without a queries_file."
    )
    gate_timed_queries: int = Field(default=30, gt=0, description="Queries that the gate times.")
    gate_wait_seconds: float = Field(
        default=60,
        ge=0,
        description="The gate waits so long for edits that are on their way into the collection.",
    )
    retire_grace_seconds: float = Field(
        default=30,
        ge=0,
        description="A retired collection is dropped after this time, so that queries that are"
        " answered from it can end.",
    )
    owners: list[str] = Field(
        default_factory=list,
        description="Who the UI names as owners of the assets: e-mail addresses or `team:name`,"
        " as a JSON list.",
    )
    bulk_window: str = Field(
        default="",
        description="When the sensors may start bulk runs, in UTC, for instance 22:00-06:00."
        " Empty: at any time. Stream runs are never held back.",
    )
    freshness_warn_seconds: float = Field(
        default=900,
        ge=60,
        description="source_files and collection turn yellow if their sensor gave no sign of life"
        " for so long.",
    )
    freshness_fail_seconds: float = Field(
        default=3600, ge=60, description="And red after so long; more than the warning."
    )
    max_quarantine_rate: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="If a larger share of the documents is quarantined, the check is an error and"
        " no longer a warning.",
    )
    min_text_characters: int = Field(
        default=40, ge=0, description="A parsed document with less text is shown by a check."
    )
    min_retrieval_recall: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="The check `retrieval` fails if the live model's recall at 10 is lower.",
    )
    checks_cron: str = Field(
        default="47 3 * * *",
        description="When the checks run that embed texts: retrieval and endpoint_parity.",
    )
    compact_cron: str = Field(
        default="23 2 * * 0", description="When collections are compacted and leftovers removed."
    )
    alert_webhook_url: SecretStr = Field(
        default=SecretStr(""),
        description="Failed runs and checks are posted there as JSON with a `text`, as Slack and"
        " others take it. Empty: no alerts.",
    )
    alert_interval_seconds: float = Field(
        default=3600,
        ge=0,
        description="A job that goes on failing with the same error alerts so often at the most.",
    )
    webserver_url: str = Field(
        default="", description="Address of the Dagster UI, for links in alerts."
    )
    audit_cron: str = Field(
        default="17 * * * *",
        description="When the audit compares Milvus's rows with the lake, and the checks run.",
    )
    report_cron: str = Field(
        default="*/15 * * * *",
        description="When the assets `ingestion_report` and `cost_report` are made.",
    )
    cost_assumptions: Path | None = Field(
        default=None,
        description="A YAML or JSON file with your own prices, and other inputs of the cost model"
        " that are to differ, by their names in `rag-assets cost`.",
    )

    @property
    def fingerprint(self) -> str:
        """Names this configuration, credentials included: another one has another name.

        Of the credentials it keeps 16 bits, too few to confirm a guess of them.
        """
        secrets = [self.milvus_token, self.embedding_api_key]  # the webhook's decides no run
        values = [secret.get_secret_value() for secret in secrets]
        values += [f"{k}={v}" for k, v in sorted(os.environ.items()) if k.startswith("AWS_")]
        options = json.dumps([getattr(self, name) for name in HIDDEN])
        hidden = digest(options, *values)[:4]
        shown = self.model_dump_json(exclude=set(HIDDEN))  # secrets are masked in it
        return f"{digest(shown)[:12]}-{hidden}"

    @field_validator("bulk_window")
    @classmethod
    def _is_window(cls, value: str) -> str:
        BulkWindow.parse(value)
        return value

    @model_validator(mode="after")
    def _warns_first(self) -> Self:
        if self.freshness_warn_seconds >= self.freshness_fail_seconds:
            raise ValueError(
                "RAG_ASSETS_FRESHNESS_WARN_SECONDS must be less than"
                " RAG_ASSETS_FRESHNESS_FAIL_SECONDS"
            )
        return self

    @property
    def fresh_within(self) -> tuple[timedelta, timedelta]:
        """How old a sign of life may be before the UI warns, and before it turns red."""
        return (
            timedelta(seconds=self.freshness_warn_seconds),
            timedelta(seconds=self.freshness_fail_seconds),
        )

    @property
    def source(self) -> str:
        """The source's URL, the default filled in."""
        return self.source_url or (self.home.resolve() / "documents").as_uri()

    @property
    def lake(self) -> str:
        """The lake's URL, the default filled in."""
        return self.lake_url or (self.home.resolve() / "lake").as_uri()


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment.

    Raises:
        ConfigurationError: A variable has a value that does not fit, or an old name; it is named.
    """
    if renamed := [name for name in RENAMED if variable(name) in os.environ]:
        raise ConfigurationError(
            "Settings were renamed: "
            + "; ".join(f"{variable(name)} is {variable(RENAMED[name])} now" for name in renamed)
            + ". Rename them in the environment; the values mean the same."
        )
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = "; ".join(
            f"{variable('.'.join(map(str, e['loc'])))}: {e['msg']}" for e in error.errors()
        )
        raise ConfigurationError(f"Settings are wrong: {problems}.") from None
    except SettingsError as error:
        raise ConfigurationError(
            f"Settings are wrong: {error}; lists and mappings are written as JSON."
        ) from None
