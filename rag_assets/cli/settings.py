"""`rag-assets settings`: every setting, from the code."""

import json
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.table import Table

from rag_assets.settings import Settings, is_secret, load_settings, variable

HEAD = """\
# Settings

Every setting is an environment variable. Lists and mappings are written as JSON. Credentials of
S3 come from the usual AWS variables, profiles and roles. `rag-assets settings` shows the values
that are in force. This page is made by `rag-assets settings --markdown > docs/settings.md`.

| variable | default | meaning |
| --- | --- | --- |
"""


@click.command()
@click.option("--markdown", is_flag=True, help="Print docs/settings.md: defaults, not values.")
def settings(*, markdown: bool) -> None:
    """List every setting, its value now, and what it does. Secrets are hidden."""
    if markdown:
        click.echo(HEAD + "\n".join(map(_line, Settings.model_fields.items())))
        return
    table = Table("variable", "value", "meaning")
    values = load_settings()
    for name, field in Settings.model_fields.items():
        shown = "(hidden)" if is_secret(field) else str(getattr(values, name))
        table.add_row(variable(name), shown, field.description)
    Console().print(table)


def _line(setting: tuple[str, FieldInfo]) -> str:
    name, field = setting
    secret = " Never shown." if is_secret(field) else ""
    meaning = f"{field.description}{secret}".replace("|", "\\|")
    default = _default(field.get_default(call_default_factory=True))
    return f"| `{variable(name)}` | {default} | {meaning} |"


def _default(value: Any) -> str:
    """Return a default as one would write it; that of a file of ours without its folder."""
    if isinstance(value, Path) and value.is_absolute():
        return f"`{value.name}` of the package"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    text = json.dumps(value) if isinstance(value, list | dict) else str(value)
    return "" if value in (None, "", {}) else f"`{text}`".replace("|", "\\|")
