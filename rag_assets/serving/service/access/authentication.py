"""Finds out who calls, by the request's bearer token.

What belongs here: which ways of authentication there are. What does not: each of them.
"""

from dataclasses import dataclass
from ipaddress import ip_address

from rag_assets.core.errors import ConfigurationError
from rag_assets.serving.service.access.callers import ANYBODY, Caller, NotAuthenticatedError
from rag_assets.serving.service.access.issuer import Issuer
from rag_assets.serving.service.access.tokens import Tokens
from rag_assets.settings import Settings

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""What a browser on this machine calls the service."""


@dataclass(frozen=True, slots=True)
class Authentication:
    """The ways of authentication that are configured; without any, everybody is let in."""

    tokens: Tokens | None = None
    issuer: Issuer | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Authentication":
        """Authenticate as the settings say.

        Raises:
            ConfigurationError: They contradict each other, or the tokens cannot be read.
        """
        file, given = settings.serve_tokens_file, settings.serve_tokens.get_secret_value()
        if file and given:
            raise ConfigurationError(
                "Set RAG_ASSETS_SERVE_TOKENS_FILE or RAG_ASSETS_SERVE_TOKENS, not both."
            )
        source, issuer = file or given, None
        if settings.serve_issuer:
            issuer = Issuer(
                str(settings.serve_issuer),
                settings.serve_audience,
                claims=settings.serve_principal_claims,
                operators=settings.serve_operators,
                jwks_url=str(settings.serve_jwks_url or ""),
            )
        return cls(Tokens(source) if source else None, issuer)

    @property
    def required(self) -> bool:
        """Whether callers have to authenticate."""
        return self.tokens is not None or self.issuer is not None

    def caller(self, header: str | None) -> Caller:
        """Return who calls, by the header `Authorization`.

        Raises:
            NotAuthenticatedError: It is missing, or its token is not accepted.
            UnavailableError: The issuer does not respond.
        """
        if not self.required:
            return ANYBODY
        scheme, _, token = (header or "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise NotAuthenticatedError("Send a token: `Authorization: Bearer TOKEN`.")
        if self.tokens and (caller := self.tokens.caller(token)):
            return caller
        if self.issuer and token.isascii() and token.count(".") == 2:  # noqa: PLR2004 - as a JWT
            return self.issuer.caller(token)
        raise NotAuthenticatedError("The token is not accepted.")

    def check_host(self, host: str) -> None:
        """Refuse to let everybody in who can reach this machine.

        Raises:
            ConfigurationError: There is no authentication, and the host is not loopback.
        """
        if not self.required and not _is_loopback(host):
            raise ConfigurationError(
                f"Without authentication, the search service listens on loopback only, not on"
                f" {host}. Set RAG_ASSETS_SERVE_TOKENS_FILE, RAG_ASSETS_SERVE_TOKENS or"
                " RAG_ASSETS_SERVE_ISSUER first."
            )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
