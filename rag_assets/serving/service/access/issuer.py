"""JSON Web Tokens of an OpenID Connect issuer.

What belongs here: verifying tokens, and mapping claims to principals. What does not: tokens from a
file (`tokens.py`). Verification is PyJWT's; keys come from the issuer's JSON Web Key Set, found by
OpenID Connect Discovery 1.0, section 4, unless its URL is given.
"""

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import httpx2
import jwt

from rag_assets.core.errors import ConfigurationError, UnavailableError
from rag_assets.serving.service.access.callers import Caller, NotAuthenticatedError

logger = logging.getLogger(__name__)

ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
"""Signatures by a key pair; with the others, whoever can verify a token can also make one."""
LEEWAY = 30  # seconds that clocks may differ
TIMEOUT = 5.0  # seconds for each request to the issuer


class IssuerUnavailableError(UnavailableError):
    """The issuer's keys cannot be fetched, so tokens cannot be verified."""


class Issuer:
    """Verifies the tokens of one issuer."""

    def __init__(
        self,
        url: str,
        audience: str,
        *,
        claims: Mapping[str, str],
        operators: Sequence[str] = (),
        jwks_url: str = "",
    ) -> None:
        """Accept tokens that `url` issued for `audience`.

        Args:
            url: The issuer, exactly as the claim `iss` has it, but for a slash at its end.
            audience: What the tokens are for.
            claims: Claim → form of its principals, such as `group:{}`.
            operators: Principals who are operators.
            jwks_url: URL of the issuer's keys; empty to discover it.

        Raises:
            ConfigurationError: There is no audience.
        """
        if not audience:
            raise ConfigurationError(
                "RAG_ASSETS_SERVE_ISSUER needs RAG_ASSETS_SERVE_AUDIENCE: without it, a token that"
                " was issued for any other application would be accepted."
            )
        self._url = url.rstrip("/")
        self._audience = audience
        self._claims = claims
        self._operators = frozenset(operators)
        self._jwks_url = jwks_url

    def caller(self, token: str) -> Caller:
        """Return who calls with a token.

        Raises:
            NotAuthenticatedError: It is no token of this issuer for this audience, or has expired.
            IssuerUnavailableError: The issuer's keys cannot be fetched.
        """
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            verified = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._audience,
                issuer=[self._url, f"{self._url}/"],
                leeway=LEEWAY,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.PyJWKClientConnectionError as error:
            raise IssuerUnavailableError(f"The keys of {self._url} cannot be fetched.") from error
        except jwt.PyJWTError as error:
            raise NotAuthenticatedError(f"The token is not accepted: {error}.") from error
        principals = tuple(self._principals(verified))
        operator = not self._operators.isdisjoint(principals)
        return Caller(str(verified["sub"]), principals, operator=operator)

    def _principals(self, claims: Mapping[str, Any]) -> list[str]:
        found = []
        for name, form in self._claims.items():
            values = claims.get(name, [])
            for value in values if isinstance(values, list) else [values]:
                if isinstance(value, str):
                    found.append(form.replace("{}", value))
        return found

    @cached_property
    def _keys(self) -> jwt.PyJWKClient:
        """The issuer's keys, which are fetched when they are first needed and when they change."""
        return jwt.PyJWKClient(self._jwks_url or self._discovered(), timeout=TIMEOUT)

    def _discovered(self) -> str:
        where = f"{self._url}/.well-known/openid-configuration"
        try:
            found = httpx2.get(where, timeout=TIMEOUT).raise_for_status().json()
            issuer, keys = found["issuer"], found["jwks_uri"]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise IssuerUnavailableError(f"{where} does not tell the issuer's keys.") from error
        if issuer.rstrip("/") != self._url:
            raise IssuerUnavailableError(f"{where} is that of another issuer, {issuer!r}.")
        return str(keys)
