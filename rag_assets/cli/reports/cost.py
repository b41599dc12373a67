"""`rag-assets cost`: the cost model in the terminal, for any inputs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rag_assets.adapters.yaml_files import read_assumptions
from rag_assets.cli import services
from rag_assets.cli.reports.status import show
from rag_assets.cli.terminal import SafeConsole
from rag_assets.core.costs import CostReport, cost_report, cost_sections, inputs
from rag_assets.settings import Settings, load_settings


def _with_inputs(command: Callable[..., None]) -> Callable[..., None]:
    """Add an option to a command for each input of the cost model."""
    for _, name, field, unit in reversed(list(inputs())):
        summary = f"{field.description} [{unit}]" if unit else str(field.description)
        option = click.option(
            f"--{name.replace('_', '-')}", name, type=field.annotation, help=summary
        )
        command = option(command)
    return command


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--assumptions",
    type=click.Path(path_type=Path),
    help="YAML or JSON file with inputs to override.  [default: RAG_ASSETS_COST_ASSUMPTIONS]",
)
@click.option("--reference", is_flag=True, help="Ignore this instance's settings and measurements.")
@_with_inputs
def cost(*, as_json: bool, assumptions: Path | None, reference: bool, **values: Any) -> None:
    """Compare the daily cost of streaming, batch and hybrid.

    Also shows how fresh each keeps the index. Starts from the reference case: 10,000 documents per
    day, 90% of which arrive in uploads. This instance's settings and measurements override its
    values; the file of assumptions overrides both, and options override everything.
    """
    given = {name: value for name, value in values.items() if value is not None}
    settings = load_settings(**({"cost_assumptions": assumptions} if assumptions else {}))
    report = _report(settings, reference=reference, given=given)
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    else:
        show(cost_sections(report), SafeConsole())


def _report(settings: Settings, *, reference: bool, given: dict[str, Any]) -> CostReport:
    if reference:
        path = settings.cost_assumptions
        return cost_report(given={**(read_assumptions(path) if path else {}), **given})
    services.use_instance(settings)
    from rag_assets.cli import ingestion  # noqa: PLC0415 - imports Dagster, which is slow

    return ingestion.cost_report(settings, given)
