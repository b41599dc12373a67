"""`rag-assets settings`: every setting with its description, generated from the code."""

import json
import shlex
from pathlib import Path
from typing import Any

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from rag_assets.cli.terminal import SafeConsole, as_json, echo_json
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

HIDDEN = "(hidden)"


@click.command()
@click.option("--changed", is_flag=True, help="Only those that differ from their defaults.")
@click.option(
    "--markdown", is_flag=True, help="Print docs/settings.md, with defaults instead of values."
)
@as_json
def settings(*, changed: bool, markdown: bool, as_json: bool) -> None:
    """List every setting with its current value and description. Secrets are hidden.

    Values are shown as a shell takes them. Those that differ from their default are marked by a
    star, with the default.
    """
    if markdown:
        click.echo(HEAD + "".join(map(_section, AREAS)), nl=False)
        return
    values = load_settings()
    shown = {
        area: {
            variable(name): entry
            for name, field in area.model_fields.items()
            if (entry := _entry(getattr(values, name), field))["changed"] or not changed
        }
        for area in AREAS
    }
    if as_json:
        echo_json({name: entry for entries in shown.values() for name, entry in entries.items()})
        return
    console = SafeConsole()
    for area, entries in shown.items():
        if entries:
            console.paragraph(area.title(), "bold underline")
        for name, entry in entries.items():
            _show(console, name, entry)


def _show(console: SafeConsole, name: str, entry: dict[str, Any]) -> None:
    value = entry["value"] if entry["value"] in ("", HIDDEN) else shlex.quote(entry["value"])
    mark, style = ("* ", "bold yellow") if entry["changed"] else ("  ", "bold")
    console.paragraph(f"{mark}{name}={value}", style)
    if entry["changed"] and entry["default"]:
        console.paragraph(f"Default: {entry['default']}", indent=4)
    console.paragraph(entry["meaning"], "dim", indent=4)


def _entry(value: Any, field: FieldInfo) -> dict[str, Any]:
    """Return what is shown of a setting; value and default as they are written."""
    default, written = field.get_default(call_default_factory=True), _written(value)
    return {
        "value": HIDDEN if written and is_secret(field) else masked(written),
        "default": _written(default),
        "changed": value != default,
        "meaning": meaning(field),
    }


def _written(value: Any) -> str:
    """Return a value as its variable has it."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value in ("", {}):
        return ""
    return json.dumps(value) if isinstance(value, list | dict | bool) else str(value)


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
    return f"`{text}`".replace("|", "\\|") if (text := _written(value)) else ""
