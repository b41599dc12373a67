"""What all settings have in common: their variable, and whether they are secret."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from rag_assets.core.addresses import parse_address
from rag_assets.core.errors import ConfigurationError

PREFIX = "RAG_ASSETS_"


def _valid_address(url: str) -> str:
    try:
        parse_address(url)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    return url


AddressSetting = Annotated[str, AfterValidator(_valid_address)]
"""An address, see `core/addresses.py`; may be empty."""


class Area(BaseSettings):
    """Base of each area's settings.

    The first line of an area's docstring is its title; the docstring below a setting describes it.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    @classmethod
    def title(cls) -> str:
        """Return the area's title."""
        return (cls.__doc__ or "").partition("\n")[0].rstrip(".")


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{PREFIX}{name.upper()}"


def meaning(field: FieldInfo) -> str:
    """Return a setting's description, on one line."""
    return " ".join((field.description or "").split())


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting's value may contain a credential and is therefore never shown."""
    return field.repr is False or field.annotation is SecretStr
