"""`rag-assets settings`: every setting with its description, generated from the code."""

import json
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from rich.table import Table

from rag_assets.cli.terminal import SafeConsole
from rag_assets.core.display import masked
from rag_assets.settings import AREAS, Area, is_secret, load_settings, meaning, variable

HEAD = """\
# Settings

Every setting is an environment variable. Lists and mappings are written as JSON. Credentials for S3 come from the usual
AWS variables, profiles and roles. `rag-assets settings` shows the current values. This page is generated:
`rag-assets settings --markdown > docs/settings.md`.
"""  # noqa: E501 - lines of Markdown

TABLE = """
## {title}

| variable | default | meaning |
| --- | --- | --- |
"""


@click.command()
@click.option(
    "--markdown", is_flag=True, help="Print docs/settings.md, with defaults instead of values."
)
def settings(*, markdown: bool) -> None:
    """List every setting with its current value and description. Secrets are hidden."""
    if markdown:
        click.echo(HEAD + "".join(map(_section, AREAS)), nl=False)
        return
    values = load_settings()
    table = Table("variable", "value", "meaning")
    for area in AREAS:
        for name, field in area.model_fields.items():
            value = "(hidden)" if is_secret(field) else masked(str(getattr(values, name)))
            table.add_row(variable(name), value, meaning(field))
        table.add_section()
    SafeConsole().print(table)


def _section(area: type[Area]) -> str:
    rows = "".join(_row(name, field) for name, field in area.model_fields.items())
    return TABLE.format(title=area.title()) + rows


def _row(name: str, field: FieldInfo) -> str:
    secret = " Never shown." if is_secret(field) else ""
    text = f"{meaning(field)}{secret}".replace("|", "\\|")
    default = _default(field.get_default(call_default_factory=True))
    return f"| `{variable(name)}` | {default} | {text} |\n"


def _default(value: Any) -> str:
    """Return a default as a user would write it; for a file of the package, without its folder."""
    if isinstance(value, Path) and value.is_absolute():
        return f"`{value.name}` of the package"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    text = json.dumps(value) if isinstance(value, list | dict) else str(value)
    return "" if value in (None, "", {}) else f"`{text}`".replace("|", "\\|")
