"""`rag-assets models`: the steps of a model's life, each as a run of its job in this process.

The runs are recorded on the instance of DAGSTER_HOME (without it, the one that `rag-assets dev`
uses), so that the UI shows them with those that were started there.
"""

import getpass
import os
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from rag_assets.cli import services as dev
from rag_assets.adapters.yaml_files import read_model_specs
from rag_assets.core.errors import RagAssetsError
from rag_assets.settings import Settings, load_settings


@click.group()
def models() -> None:
    """Bring a new embedding model into service while queries go on.

    The order: register, cost, build, status, judge, promote; then retire the old one, or rollback.
    """


key = click.argument("model")
yes = click.option("--yes", is_flag=True, help="Do not ask.")


@models.command("list")
def list_models() -> None:
    """List the models of the models file and those on record, with their roles."""
    settings = _settings()
    specs = read_model_specs(settings.models_file)
    standings = {standing.model: standing for standing in _standings(settings)}
    table = Table("model", "role", "dimension", "sparse", "description")
    for name in [*specs, *(standings.keys() - specs.keys())]:
        spec = specs.get(name)
        role = standings[name].role if name in standings else "not registered"
        shown = (str(spec.dimension), spec.sparse.value, spec.description) if spec else ("", "", "")
        table.add_row(name, role, *shown)
    Console().print(table)


@models.command()
@key
def register(model: str) -> None:
    """Put MODEL on record: its key stands for its spec from now on."""
    _run("register_model", register={"model": model})
    click.echo(f"{model} is registered.")


@models.command()
def first() -> None:
    """Register the model of the settings and have it built, unless models are on record already."""
    from rag_assets.cli.ingestion import register_first_model  # noqa: PLC0415 - imports Dagster

    settings = _settings()
    register_first_model(settings, os.environ["DAGSTER_HOME"])
    click.echo("The first model is on record.")


@models.command()
@key
@click.option("--tokens-per-second", type=float, default=0.0, help="The rate of one GPU.")
def cost(model: str, tokens_per_second: float) -> None:
    """Estimate what building MODEL takes: GPU hours and storage."""
    _show_cost(_settings(), model, tokens_per_second)


@models.command()
@key
@click.option("--beside", is_flag=True, help="Although another candidate is there already.")
@yes
def build(model: str, beside: bool, yes: bool) -> None:
    """Have MODEL's collection built, by the index sensor's bulk runs, after a look at the cost."""
    settings = _settings()
    if not yes:
        _show_cost(settings, model, 0.0)
        click.confirm(f"Build {model}?", abort=True)
    _run("build_model", build={"model": model, "beside": beside})
    click.echo(f"{model} is being built. `rag-assets models status` shows how far it is.")


@models.command()
@key
def cancel(model: str) -> None:
    """Stop building MODEL; what was built stays for the next build."""
    _run("cancel_build", cancel={"model": model})
    click.echo(f"{model} is no longer built.")


@models.command()
@click.argument("model", required=False)
def status(model: str | None) -> None:
    """Show how far each model's collection is, or MODEL's."""
    table = Table("model", "role", "embedded", "written", "in step", "shards", "collection")
    for row in _standings(_settings()):
        if model in (None, row.model):
            counts = (row.embedded, row.written, row.in_step, row.shards)
            table.add_row(row.model, row.role, *map(str, counts), row.collection)
    Console().print(table)


@models.command()
def judge() -> None:
    """Judge every candidate by the rules that a promotion demands; changes nothing."""
    _run("judge_candidates")


@models.command()
@key
@click.option("--force", is_flag=True, help="Although the gate refuses; asks, and is recorded.")
@click.option("--reason", default="", help="Why, for the record.")
@yes
def promote(model: str, force: bool, reason: str, yes: bool) -> None:
    """Judge MODEL, and answer queries from it from now on."""
    if force:
        reason = reason or click.prompt("Why is it forced? This is recorded")
        if not yes:
            click.confirm(f"Make {model} live whatever the gate says?", abort=True)
    _run("promote", live_alias=_who(reason) | {"model": model, "force": force})
    click.echo(f"{model} is live.")


@models.command()
@click.option("--reason", default="", help="Why, for the record.")
@click.option("--force", is_flag=True, help="Although its data is not complete; needs a reason.")
def rollback(reason: str, force: bool) -> None:
    """Answer queries from the model that was live before."""
    live = _live(_settings())
    config = {"rollback": True, "leave": live, "force": force}
    _run("rollback", live_alias=_who(reason) | config)
    click.echo(f"{_live(_settings())} is live.")


@models.command()
@key
@yes
def retire(model: str, yes: bool) -> None:
    """Remove MODEL: its collection, vectors and partition. Not the live one."""
    settings = _settings()
    if not yes:
        click.confirm(
            f"Drop {model}'s collection and vectors? They can only be built anew.", abort=True
        )
    click.echo(f"Queries in flight have {settings.grace_seconds:g} s to end.")
    _run("retire_model", retire={"model": model})
    click.echo(f"{model} is retired.")


def _settings() -> Settings:
    """Return the settings, with the Dagster instance of `rag-assets dev` where none is named."""
    settings = load_settings()
    dev.use_instance(settings)
    return settings


def _who(reason: str) -> dict[str, str]:
    return {"by": getpass.getuser(), "reason": reason}


def _run(job: str, **ops: dict[str, Any]) -> None:
    """Run a job here and show the gate's findings, if it has any; raise what it failed with."""
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


def _standings(settings: Settings) -> list[Any]:
    from rag_assets.cli.ingestion import standings  # noqa: PLC0415 - as above

    return standings(settings)


def _live(settings: Settings) -> str:
    return next((row.model for row in _standings(settings) if row.role == "live"), "")


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
