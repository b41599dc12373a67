"""`rag-assets models`: the steps of a model's life, each as a run of its job in this process.

The runs are recorded on the instance of DAGSTER_HOME (without it, the one that `rag-assets dev`
uses), so that the UI shows them with those that were started there.
"""

import getpass
import os
from collections.abc import Callable
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table

from rag_assets.adapters.yaml_files import read_model_specs
from rag_assets.cli import services
from rag_assets.core.errors import RagAssetsError
from rag_assets.core.names import Job
from rag_assets.settings import Settings, load_settings


@click.group()
def models() -> None:
    """Bring a new embedding model into service while queries go on.

    In order: register, cost, build, status, evaluate, promote; then rollback, or retire the old one.
    """


key = click.argument("model")

Command = TypeVar("Command", bound=Callable[..., Any])


def renamed(old: str, new: str) -> Callable[[Command], Command]:
    """Return a hidden option that is refused with its new name."""

    def refuse(_: click.Context, option: click.Parameter, given: bool) -> None:
        if given:
            raise click.UsageError(f"{option.opts[0]} is {new} now.")

    return click.option(old, is_flag=True, hidden=True, expose_value=False, callback=refuse)


yes = click.option("--yes", is_flag=True, help="Skip the confirmation.")


@models.command("list")
def list_models() -> None:
    """List the models of the models file and those registered, with their roles."""
    settings = _settings()
    specs = read_model_specs(settings.models_file)
    statuses = {status.model: status for status in _statuses(settings)}
    table = Table("model", "role", "dimension", "sparse", "description")
    for name in [*specs, *(statuses.keys() - specs.keys())]:
        spec = specs.get(name)
        role = statuses[name].role if name in statuses else "not registered"
        shown = (str(spec.dimension), spec.sparse.value, spec.description) if spec else ("", "", "")
        table.add_row(name, role, *shown)
    Console().print(table)


@models.command()
@key
def register(model: str) -> None:
    """Register MODEL: from now on its key stands for its spec."""
    _run(Job.REGISTER_MODEL, register={"model": model})
    click.echo(f"{model} is registered.")


@models.command()
def first() -> None:
    """Register the model of the settings and build it, unless there are models already."""
    from rag_assets.cli.ingestion import register_first_model  # noqa: PLC0415 - imports Dagster

    settings = _settings()
    register_first_model(settings, os.environ["DAGSTER_HOME"])
    click.echo("The first model is registered.")


@models.command()
@key
@click.option("--tokens-per-second", type=float, default=0.0, help="Rate of one GPU.")
def cost(model: str, tokens_per_second: float) -> None:
    """Estimate what building MODEL takes: GPU hours and storage."""
    _show_cost(_settings(), model, tokens_per_second)


@models.command()
@key
@click.option("--concurrent", is_flag=True, help="Build even if another candidate is being built.")
@renamed("--beside", "--concurrent")
@yes
def build(model: str, *, concurrent: bool, yes: bool) -> None:
    """Build MODEL's collection, by the index sensor's bulk runs, after showing the cost."""
    settings = _settings()
    if not yes:
        _show_cost(settings, model, 0.0)
        click.confirm(f"Build {model}?", abort=True)
    _run(Job.BUILD_MODEL, build={"model": model, "concurrent": concurrent})
    click.echo(f"{model} is being built. `rag-assets models status` shows how far it is.")


@models.command()
@key
def cancel(model: str) -> None:
    """Stop building MODEL; what was built is kept for the next build."""
    _run(Job.CANCEL_BUILD, cancel={"model": model})
    click.echo(f"{model} is no longer built.")


@models.command()
@click.argument("model", required=False)
def status(model: str | None) -> None:
    """Show how far each model's collection is, or MODEL's."""
    table = Table("model", "role", "embedded", "written", "in sync", "shards", "collection")
    for row in _statuses(_settings()):
        if model in (None, row.model):
            counts = (row.embedded, row.written, row.in_sync, row.shards)
            table.add_row(row.model, row.role, *map(str, counts), row.collection)
    Console().print(table)


@models.command()
def evaluate() -> None:
    """Evaluate every candidate by the rules that a promotion requires; changes nothing."""
    _run(Job.EVALUATE_CANDIDATES)


@models.command("judge", hidden=True)
def renamed_judge() -> None:
    """Refuse the name that `evaluate` had before."""
    raise click.UsageError("`models judge` is `models evaluate` now.")


@models.command()
@key
@click.option(
    "--force",
    is_flag=True,
    help="Promote although the gate refuses; asks for confirmation, and is recorded.",
)
@click.option("--reason", default="", help="Reason, for the record.")
@yes
def promote(model: str, force: bool, reason: str, yes: bool) -> None:
    """Evaluate MODEL, and answer queries from it from now on."""
    if force:
        reason = reason or click.prompt("Reason for forcing it, for the record")
        if not yes:
            click.confirm(f"Make {model} live although the gate may refuse?", abort=True)
    _run(Job.PROMOTE, live_alias=_who(reason) | {"model": model, "force": force})
    click.echo(f"{model} is live.")


@models.command()
@click.option("--reason", default="", help="Reason, for the record.")
@click.option(
    "--force", is_flag=True, help="Roll back although its data is incomplete; requires a reason."
)
def rollback(reason: str, force: bool) -> None:
    """Answer queries from the previously live model."""
    live = _live(_settings())
    config = {"rollback": True, "leave": live, "force": force}
    _run(Job.ROLLBACK, live_alias=_who(reason) | config)
    click.echo(f"{_live(_settings())} is live.")


@models.command()
@key
@yes
def retire(model: str, yes: bool) -> None:
    """Remove MODEL: its collection, vectors and partition. The live one is refused."""
    settings = _settings()
    if not yes:
        click.confirm(
            f"Drop {model}'s collection and vectors? They can only be rebuilt.", abort=True
        )
    click.echo(f"Running queries have {settings.retire_grace_seconds:g} s to finish.")
    _run(Job.RETIRE_MODEL, retire={"model": model})
    click.echo(f"{model} is retired.")


def _settings() -> Settings:
    """Return the settings, with the Dagster instance of `rag-assets dev` where none is named."""
    settings = load_settings()
    services.use_instance(settings)
    return settings


def _who(reason: str) -> dict[str, str]:
    return {"by": getpass.getuser(), "reason": reason}


def _run(job: str, **ops: dict[str, Any]) -> None:
    """Run a job here and show the gate's findings, if there are any; raise its error."""
    from rag_assets.cli.ingestion import run_step  # noqa: PLC0415 - imports Dagster, which takes seconds

    _settings()
    findings, error = run_step(job, ops)
    if findings:
        table = Table("rule", "", "evidence")
        for finding in findings:
            mark = "[green]passed[/]" if finding.passed else "[red]refused[/]"
            table.add_row(finding.rule, mark, finding.evidence)
        Console().print(table)
    if error:
        raise RagAssetsError(error)


def _statuses(settings: Settings) -> list[Any]:
    from rag_assets.cli.ingestion import statuses  # noqa: PLC0415 - as above

    return statuses(settings)


def _live(settings: Settings) -> str:
    return next((row.model for row in _statuses(settings) if row.role == "live"), "")


def _show_cost(settings: Settings, model: str, rate: float) -> None:
    from rag_assets.cli.ingestion import preview  # noqa: PLC0415 - as above

    found = preview(settings, model, rate)
    table = Table("building", model)
    table.add_row("chunks in the collection", f"{found.chunks:,}")
    table.add_row("texts without a vector", f"{found.texts_to_embed:,}")
    table.add_row("tokens in them", f"{found.tokens_to_embed:,}")
    table.add_row("tokens a second", f"{found.tokens_per_second:,.0f} ({found.rate_from})")
    table.add_row("GPU hours", f"{found.gpu_hours:,.2f}")
    table.add_row("vectors in the lake", _size(found.lake_bytes))
    table.add_row("in Milvus, beside the live one", _size(found.milvus_bytes))
    table.add_row("of that in memory, all replicas", _size(found.memory_bytes))
    Console().print(table)


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.2f} MB"  # noqa: PLR2004
