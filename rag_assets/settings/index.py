"""Settings of the storage: lake, Milvus and models."""

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from rag_assets.settings.area import Area, StoreUrl


class StorageSettings(Area):
    """Lake and shards."""

    home: Path = Path(".rag-assets")
    """Folder of the embedded defaults: lake, Milvus Lite and Dagster instance."""

    lake_url: StoreUrl = ""
    """URL of the lake, file:// or s3://. Empty: the folder `lake` in RAG_ASSETS_HOME."""

    lake_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """fsspec options for the lake, as JSON."""

    shards: int = Field(default=8, gt=0, le=10_000)
    """Number of shards that a new lake begins with. One that is in use has its own number, which
    can only be doubled (`rag-assets shards double`); this setting can then stay as it is. Aim for
    500 to 2,000 documents per shard.
    """


class MilvusSettings(Area):
    """Milvus and search."""

    milvus_uri: str = "http://127.0.0.1:19530"
    """URL of Milvus."""

    milvus_token: SecretStr = SecretStr("")
    """Token for Milvus: user:password or an API key."""

    milvus_import_url: StoreUrl = ""
    """URL of a folder in Milvus's own storage, s3:// or file://, for filling a new model's
    collection by bulk import. Empty: it is filled by upserts.
    """

    milvus_import_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """fsspec options for RAG_ASSETS_MILVUS_IMPORT_URL, as JSON."""

    alias: str = Field(default="rag_assets", pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")
    """Milvus alias of the live collection, and prefix of the collections' names. Each source needs
    its own.
    """

    replicas: int = Field(default=1, gt=0)
    """Number of in-memory replicas of each loaded collection; Milvus needs as many query nodes."""

    search_refresh_seconds: float = Field(default=1.0, ge=0)
    """Minimum interval between a searcher's checks for a new live model."""


class ModelSettings(Area):
    """Embedding models."""

    models_file: Path = Path(__file__).parents[1] / "models.yaml"
    """Path of the YAML file with the model specs."""

    model: str = "wordllama-256-v1"
    """Key of the model that is registered and promoted first; afterwards, the alias determines the
    live model.
    """

    embedding_api_key: SecretStr = SecretStr("")
    """Bearer token for OpenAI-compatible embedding endpoints."""

    pickled_weights: bool = False
    """Whether a model's weights may be read from pickle files (pytorch_model.bin and other .bin or
    .pt files), which can run code when they are loaded. By default from safetensors only.
    """

    embedding_wait_seconds: float = Field(default=120, gt=0)
    """Maximum time that a run waits for an unavailable or rate-limited embedding server before it
    fails and is retried.
    """

    vector_grace_seconds: float = Field(default=604_800, ge=0)
    """Grace period for which the vectors of removed texts are kept, so that their return costs
    nothing.
    """

    retire_grace_seconds: float = Field(default=30, ge=0)
    """Grace period between retiring a model and dropping its collection, so that running queries
    can finish.
    """
