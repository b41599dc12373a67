"""JSON Web Tokens of an OpenID Connect issuer.

What belongs here: verifying tokens, and mapping claims to principals. What does not: tokens from a
file (`tokens.py`). Verification is PyJWT's; keys come from the issuer's JSON Web Key Set, found by
OpenID Connect Discovery 1.0, section 4, unless its URL is given.
"""

import logging
from collections.abc import Mapping, Sequence
from math import inf
from time import monotonic
from typing import Any

import httpx2
import jwt
from typing_extensions import override

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
LIFESPAN = 300.0  # seconds after which the keys are fetched again
MAX_AGE = 24 * 3600  # seconds that they hold while the issuer does not respond
PAUSE = 5.0  # seconds until it is asked again
MALFORMED = (ValueError, TypeError, LookupError)  # what reading an unexpected answer raises


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
        self._keys = _Keys(self._url, jwks_url)

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


class _Keys(jwt.PyJWKClient):
    """The issuer's keys, fetched by one thread at a time when they are first needed and change.

    While the issuer does not respond, the last ones hold and it is asked only now and then:
    otherwise its outage would be that of every caller, and tokens with keys that nobody knows would
    have all others wait.
    """

    def __init__(self, issuer: str, url: str) -> None:
        """Fetch from `url`; if that is empty, from where the issuer says."""
        super().__init__(url or issuer, lifespan=LIFESPAN, timeout=TIMEOUT)
        self._issuer = issuer
        self._discovered = bool(url)
        self._last: Any = None
        self._last_at = self._ask_at = -inf
        self._trouble = ""

    @override
    def fetch_data(self) -> Any:
        """Return the keys as the issuer has them, or as it last had them.

        Raises:
            IssuerUnavailableError: It does not respond, and had none within `MAX_AGE`.
        """
        if monotonic() >= self._ask_at:
            try:
                self._last, self._last_at = self._fetched(), monotonic()
            except (httpx2.HTTPError, jwt.PyJWTError, OSError, *MALFORMED) as error:
                self._ask_at = monotonic() + PAUSE
                self._trouble = f"The keys of {self._issuer} cannot be fetched: {error!r}."
                logger.warning("%s", self._trouble)
        if monotonic() - self._last_at > MAX_AGE:
            raise IssuerUnavailableError(self._trouble)
        return self._last

    def _fetched(self) -> Any:
        if not self._discovered:
            where = f"{self._issuer}/.well-known/openid-configuration"
            found = httpx2.get(where, timeout=TIMEOUT).raise_for_status().json()
            if str(found["issuer"]).rstrip("/") != self._issuer:
                raise ValueError(f"{where} is that of another issuer, {found['issuer']!r}")
            # A client of its own, because only that checks the scheme: no key comes from a file.
            self.uri = jwt.PyJWKClient(str(found["jwks_uri"])).uri
            self._discovered = True
        return super().fetch_data()
