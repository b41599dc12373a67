"""Bearer tokens from a file of secrets: what each one may do.

    - name: intranet            # for the access log
      token: 3f0c…              # or token_sha256: the SHA-256 of the token, in hex
      principals: [group:staff] # who asks, if permissions are on
      acts_for_others: true     # may name other principals in a request
      operator: true            # may search candidates, and have any document explained

What belongs here: reading and finding tokens. What does not: those of an issuer (`issuer.py`).
"""

import hmac
import logging
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from rag_assets.adapters.yaml_files import file_state
from rag_assets.core.errors import ConfigurationError
from rag_assets.core.models.base_spec import Sha256
from rag_assets.serving.service.access.callers import Caller
from rag_assets.settings import variable

logger = logging.getLogger(__name__)

MIN_TOKEN = 16
"""Minimum length of a token, in characters."""

Name = Annotated[str, StringConstraints(pattern=r"^[\w.@:-]{1,64}$")]


class Token(BaseModel):
    """A token of the file, as the module's docstring shows it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    token: SecretStr | None = Field(default=None, min_length=MIN_TOKEN)
    token_sha256: Sha256 | None = None
    principals: tuple[str, ...] = ()
    acts_for_others: bool = False
    operator: bool = False

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        if (self.token is None) == (self.token_sha256 is None):
            raise ValueError("give either `token` or `token_sha256`")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of the token, in hex."""
        if self.token is not None:
            return sha256(self.token.get_secret_value().encode()).hexdigest()
        return self.token_sha256 or ""

    @property
    def caller(self) -> Caller:
        """Who calls with it."""
        return Caller(self.name, self.principals, self.acts_for_others, self.operator)


_TOKENS = TypeAdapter(list[Token], config=ConfigDict(hide_input_in_errors=True))
EXPECTED = "a list of tokens, each with `name` and `token` or `token_sha256`"


class Tokens:
    """Finds who calls by a bearer token, among those of a file or a text."""

    def __init__(self, source: Path | str) -> None:
        """Read the tokens.

        Raises:
            ConfigurationError: They are invalid. The message has none of them.
        """
        self._source = source
        self._state: tuple[int, ...] = ()
        self._tokens = self._read()

    def caller(self, token: str) -> Caller | None:
        """Return who calls with a token; None if it is not known.

        All are compared in constant time, by digest, so nothing is told by how long it takes.
        """
        self._refresh()
        given = sha256(token.encode(errors="surrogatepass")).hexdigest()
        found = [one for one in self._tokens if hmac.compare_digest(one.digest, given)]
        return found[0].caller if found else None

    def _refresh(self) -> None:
        """Read the file again if it has changed; while it is invalid, the tokens before hold."""
        if isinstance(self._source, str) or file_state(self._source) == self._state:
            return
        try:
            self._tokens = self._read()
        except ConfigurationError:
            logger.exception("The tokens read before are still accepted.")

    def _read(self) -> list[Token]:
        if isinstance(self._source, str):
            where, text = variable("serve_tokens"), self._source
        else:
            self._state = file_state(self._source)
            where, text = str(self._source), _text(self._source)
        try:
            tokens = _TOKENS.validate_python(yaml.safe_load(text))
        except yaml.MarkedYAMLError as error:  # its own text quotes the line
            line = error.problem_mark.line + 1 if error.problem_mark else 0
            raise ConfigurationError(f"{where} is not valid YAML: see line {line}.") from None
        except ValidationError as error:
            raise ConfigurationError(f"{where}: expected {EXPECTED}: {error}") from None
        for count in (Counter(one.name for one in tokens), Counter(one.digest for one in tokens)):
            if max(count.values(), default=0) > 1:
                raise ConfigurationError(f"{where}: two tokens have the same name or secret.")
        return tokens


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"Cannot read {path}: {type(error).__name__}.") from None
