"""Settings of the source and of the work on its documents."""

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from rag_assets.core.sources.source_ids import DEFAULT
from rag_assets.settings.area import Area, StoreUrl, variable


class SourceSettings(Area):
    """Source."""

    sources_file: Path | None = None
    """Path of the YAML file that declares several sources (docs/sources.md). The other settings of
    this area are then the defaults of each of them, except for its URL, options and queue, which
    may not be set. Empty: one source, of these settings.
    """

    source_url: StoreUrl = ""
    """URL or path of the bucket or folder to index, for instance s3://bucket/prefix, taken as it is
    written; only a file:// URL is percent-decoded. Empty: the folder `documents` in
    RAG_ASSETS_HOME.
    """

    source_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """fsspec options for the source, as JSON, for instance an endpoint_url."""

    include: list[str] = Field(default_factory=lambda: ["**"])
    """Glob patterns of the document keys to index, as a JSON list. As keys are, they are
    case-sensitive, except for the extension: `**/*.pdf` selects `A.PDF` too.
    """

    exclude: list[str] = Field(default_factory=lambda: [".*", "**/.*", "**/.*/**", "**/~$*"])
    """Glob patterns of the document keys to skip, as a JSON list. The default skips hidden files
    and lock files. A folder excluded by a pattern that ends in /** is not entered.
    """

    max_document_bytes: int = Field(default=100_000_000, gt=0)
    """Maximum size of a document, in bytes, as stored and with its Content-Encoding undone; a
    larger one is quarantined as too_large.
    """

    max_removal_share: float = Field(default=0.5, ge=0, le=1)
    """Maximum share of the listed documents that a listing removes without confirmation. A larger
    removal is doubted: its documents stay in the index until they return or it is accepted.
    """

    max_removal_documents: int = Field(default=20, ge=0)
    """Maximum number of documents that a listing removes without confirmation, whatever their
    share.
    """

    events_queue_url: str = ""
    """URL of an SQS queue with the bucket's event notifications: changes are then found within one
    tick instead of by the next listing. Empty: by listing only.
    """

    events_options: dict[str, Any] = Field(default_factory=dict, repr=False)
    """Arguments of botocore's SQS client, as JSON, for instance a region_name."""

    @model_validator(mode="after")
    def _declared_in_one_place(self) -> Self:
        given = [name for name in OF_ONE_SOURCE if getattr(self, name)]
        if self.sources_file and given:
            raise ValueError(
                f"{' and '.join(map(variable, given))} may not be set together with"
                f" {variable('sources_file')}: declare that source in the file, under the name"
                f" `{DEFAULT}` if it is the one that the lake has been filled from"
            )
        return self


OF_ONE_SOURCE = ("source_url", "source_options", "events_queue_url", "events_options")
"""The settings that a sources file replaces."""


class DocumentSettings(Area):
    """Parsing and chunking."""

    parse_workers: int = Field(default=2, gt=0)
    """Number of parser processes per run."""

    parse_timeout_seconds: float = Field(default=120, gt=0)
    """Maximum time to parse a document; one that takes longer is quarantined."""

    parse_memory_bytes: int = Field(default=2_000_000_000, gt=0)
    """Maximum memory of a parser process, in bytes."""

    parse_characters: int = Field(default=20_000_000, gt=0)
    """Maximum characters of a document's text; a document with more is quarantined."""

    parse_source_code: bool = True
    """Whether files of source code are indexed. If not, they are skipped."""

    chunk_characters: int = Field(default=1000, gt=0, le=16_000)
    """Maximum size of a chunk, in characters."""

    chunk_tokens: int = Field(default=384, gt=0)
    """Maximum size of a chunk, in tokens as counted by RAG_ASSETS_TOKENIZER."""

    tokenizer: str = "package:wordllama/tokenizers/l2_supercat_tokenizer_config.json"
    """Path of the tokenizer.json that counts tokens, or package:MODULE/PATH."""

    metadata_file: Path | None = None
    """Path of the YAML file that declares metadata fields and permissions. Empty: documents have
    the built-in fields only, and everyone may see all of them.
    """

    micro_batch: int = Field(default=256, gt=0)
    """Number of documents parsed, or texts embedded, between two checkpoints."""
