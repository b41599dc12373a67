"""Settings of the query side: the service, who may use it, and its second stage."""

from pathlib import Path

from pydantic import Field, HttpUrl, SecretStr

from rag_assets.settings.area import Area


class RerankSettings(Area):
    """Reranking."""

    reranker: str = ""
    """Key of the reranker in the models file that orders the first hits of a search anew. Empty:
    hits keep the order of the first stage.
    """

    rerank_candidates: int = Field(default=50, ge=1, le=1000)
    """Number of hits that are reranked."""

    rerank_seconds: float = Field(default=2, gt=0)
    """Maximum time that a search waits for the reranker, before it answers in the order of the
    first stage.
    """

    rerank_api_key: SecretStr = SecretStr("")
    """Bearer token for a reranker on a server."""


class ServeSettings(Area):
    """Search service."""

    serve_tokens_file: Path | None = None
    """Path of the YAML file with the bearer tokens of the search service, and what each may do. It
    is read again when it changes.
    """

    serve_tokens: SecretStr = SecretStr("")
    """The content of such a file, instead of the file."""

    serve_issuer: HttpUrl | None = None
    """URL of the OpenID Connect issuer whose JSON Web Tokens the search service accepts."""

    serve_audience: str = ""
    """Audience that these tokens must be for; required with RAG_ASSETS_SERVE_ISSUER."""

    serve_jwks_url: HttpUrl | None = None
    """URL of the issuer's keys. Empty: found by OpenID Connect Discovery."""

    serve_principal_claims: dict[str, str] = Field(
        default_factory=lambda: {"sub": "{}", "groups": "{}"}
    )
    """The claims of a token that name principals and the form of each, as JSON, such as
    {"email": "user:{}", "groups": "group:{}"}.
    """

    serve_operators: list[str] = Field(default_factory=list)
    """Principals, as JSON list, who may search candidates and have any document explained, if their
    token is from the issuer. In the file of tokens, `operator: true` says so.
    """

    serve_concurrency: int = Field(default=8, ge=1, le=1000)
    """Number of requests that the search service works on at once."""

    serve_queue: int = Field(default=64, ge=0, le=10_000)
    """Number of further requests that wait; more are answered with 429 and Retry-After."""

    serve_timeout_seconds: float = Field(default=10, gt=0)
    """Maximum time from a request to its answer, which is 504 after that."""

    serve_body_bytes: int = Field(default=65_536, ge=1024)
    """Maximum size of a request; a larger one is answered with 413."""

    serve_question_characters: int = Field(default=4000, ge=1)
    """Maximum length of a question; a longer one is refused."""

    serve_log_questions: bool = False
    """Whether the access log contains the questions' texts."""
