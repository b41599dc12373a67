"""What all settings have in common: their variable, and whether they are secret."""

from typing import Annotated

from pydantic import AfterValidator, SecretStr
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from rag_assets.core.addresses import check_address
from rag_assets.core.display import without_credentials

PREFIX = "RAG_ASSETS_"


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


StoreUrl = Annotated[str, AfterValidator(check_address)]
"""An address of documents or data, see `core/addresses.py`, or empty. It is shown and stored, so a
password in it is refused.
"""

LinkUrl = Annotated[str, AfterValidator(without_credentials)]
"""A URL for people to follow, without a user and password."""


def is_secret(field: FieldInfo) -> bool:
    """Whether a setting's value may contain a credential and is therefore never shown."""
    return field.repr is False or field.annotation is SecretStr
