"""`rag-assets models`: the steps of a model's lifecycle, each as a run of its job in this process.

The runs are recorded on the instance of DAGSTER_HOME, or else of `rag-assets dev`, so that the UI
shows them together with those started there.

What belongs here: options, confirmations and output. What does not: running the jobs
(`ingestion.py`).
"""

import getpass
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import click
from rich.text import Text

from rag_assets.cli import services
from rag_assets.cli.terminal import Listing, SafeConsole, as_json, echo_json, working
from rag_assets.core.errors import RagAssetsError
from rag_assets.core.names import Job
from rag_assets.settings import Settings, load_settings


@click.group()
def models() -> None:
    """Switch to another embedding model while queries go on.

    In order: register, cost, build, status, evaluate, promote; then retire the old model, or
    rollback. What is refused is refused before a run begins.
    """


key = click.argument("model")

yes = click.option("--yes", is_flag=True, help="Skip the confirmation.")


@models.command("list")
@as_json
def list_models(*, as_json: bool) -> None:
    """List all models with their roles."""
    from rag_assets.adapters.yaml_files import read_model_specs  # noqa: PLC0415 - imports polars

    settings = _settings()
    specs = read_model_specs(settings.models_file)
    statuses = {status.model: status for status in _statuses(settings)}
    rows = []
    for name in [*specs, *(statuses.keys() - specs.keys())]:
        spec = specs.get(name)
        role = statuses[name].role if name in statuses else "not registered"
        details = (spec.dimension, spec.sparse, spec.description) if spec else ("", "", "")
        rows.append((name, role, *details))
    _show_listing(("model", "role", "dimension", "sparse", "description"), rows, as_json=as_json)


@models.command()
@key
def register(model: str) -> None:
    """Register MODEL, which binds its key to its current spec."""

    def move(index: Any, now: Any) -> Any:
        from rag_assets.models.lifecycle import registered  # noqa: PLC0415 - slow to import

        return registered(index, now, model)

    _require(move)
    _run(Job.REGISTER_MODEL, register={"model": model})
    click.echo(f"{model} is registered.")


@models.command()
def first() -> None:
    """Register and build the first model, RAG_ASSETS_MODEL.

    Does nothing if there are models already.
    """
    settings = _settings()
    with working("Registering the first model"):
        from rag_assets.cli.ingestion import register_first_model  # noqa: PLC0415 - as below

        register_first_model(settings, os.environ["DAGSTER_HOME"])
    click.echo("The first model is registered.")


@models.command()
@key
@click.option(
    "--tokens-per-second", type=float, default=0.0, help="Rate of one GPU.  [default: measured]"
)
@as_json
def cost(model: str, tokens_per_second: float, *, as_json: bool) -> None:
    """Estimate the GPU hours and storage that building MODEL takes."""
    estimate = _cost(_settings(), model, tokens_per_second)
    if as_json:
        echo_json(asdict(estimate))
    else:
        _show_cost(model, estimate)


@models.command()
@key
@click.option("--concurrent", is_flag=True, help="Build even if another candidate is being built.")
@click.option("--beside", is_flag=True, hidden=True)
@yes
def build(model: str, *, concurrent: bool, beside: bool, yes: bool) -> None:
    """Build MODEL's collection in bulk runs, after showing the cost."""
    if beside:
        raise click.UsageError("--beside is now --concurrent.")
    settings = _require(lambda _, now: now.build(model, concurrent=concurrent))
    if not yes:
        _show_cost(model, _cost(settings, model, 0.0))
        click.confirm(f"Build {model}?", abort=True)
    _run(Job.BUILD_MODEL, build={"model": model, "concurrent": concurrent})
    click.echo(f"{model} is being built. `rag-assets models status` shows the progress.")


@models.command()
@key
@click.option("--concurrent", is_flag=True, help="Build even if another candidate is being built.")
@yes
def rebuild(model: str, *, concurrent: bool, yes: bool) -> None:
    """Build another collection of MODEL, with today's metadata fields and index.

    It is filled from the vectors that there are, so nothing is embedded, while the present one
    answers queries. It goes live by `models promote`.
    """

    def move(index: Any, now: Any) -> Any:
        from rag_assets.models.lifecycle import rebuilt  # noqa: PLC0415 - slow to import

        return rebuilt(index, now, model, concurrent=concurrent)

    _require(move)
    if not yes:
        click.confirm(f"Build another collection of {model}? It takes as much space.", abort=True)
    _run(Job.REBUILD_MODEL, rebuild={"model": model, "concurrent": concurrent})
    click.echo("It is being built. `rag-assets models status` shows its key and the progress.")


@models.command()
@key
def cancel(model: str) -> None:
    """Stop building MODEL; what was built is kept for the next build."""
    _require(lambda _, now: now.cancel(model))
    _run(Job.CANCEL_BUILD, cancel={"model": model})
    click.echo(f"The build of {model} is cancelled.")


@models.command()
@click.argument("model", required=False)
@as_json
def status(model: str | None, *, as_json: bool) -> None:
    """Show the progress of MODEL's collection, or of all models'."""
    settings = _settings()
    rows = [
        (row.model, row.role, row.embedded, row.written, row.in_sync, row.shards, row.collection)
        for row in _statuses(settings)
        if model in (None, row.model)
    ]
    if model and not rows:
        raise RagAssetsError(f"{model} is not registered; `rag-assets models list` lists all.")
    columns = ("model", "role", "embedded", "written", "in sync", "shards", "collection")
    _show_listing(columns, rows, as_json=as_json)
    if not as_json:
        from rag_assets.cli.ingestion import live_message  # noqa: PLC0415 - as below

        click.echo(live_message(settings))


@models.command()
def evaluate() -> None:
    """Evaluate every candidate by the promotion gate. Changes nothing."""
    _settings()
    _run(Job.EVALUATE_CANDIDATES)


@models.command("judge", hidden=True)
def renamed_judge() -> None:
    """Refuse the old name of `evaluate`."""
    raise click.UsageError("`models judge` is now `models evaluate`.")


@models.command()
@key
@click.option(
    "--force",
    is_flag=True,
    help="Promote even if the gate refuses. Requires a reason, which is recorded.",
)
@click.option("--reason", default="", help="Reason, to be recorded.")
@yes
def promote(model: str, force: bool, reason: str, yes: bool) -> None:
    """Make MODEL live, if it passes the gate."""
    if force:
        reason = reason or click.prompt("Reason for forcing the promotion, to be recorded")
        if not yes:
            click.confirm(f"Make {model} live even if the gate refuses?", abort=True)
    _require(lambda _, now: now.begin_promotion(model))
    _run(Job.PROMOTE, live_alias=_who(reason) | {"model": model, "force": force})
    click.echo(f"{model} is live.")


@models.command()
@click.option("--reason", default="", help="Reason, to be recorded.")
@click.option(
    "--force", is_flag=True, help="Roll back even if its data is incomplete. Requires a reason."
)
@click.option(
    "--direct",
    is_flag=True,
    help="Move the alias without a run, for when Dagster's storage is down. Nothing is recorded.",
)
def rollback(reason: str, force: bool, direct: bool) -> None:
    """Make the previously live model live again, at once.

    Needs Milvus and the lake; neither Dagster's daemon, nor a GPU, nor an embedding server.
    """
    settings = _require(lambda _, now: now.rollback_target())
    from rag_assets.cli.ingestion import last_live, roll_back  # noqa: PLC0415 - as below

    if direct:
        _show_findings(roll_back(settings, force=force))
    else:
        config = {"rollback": True, "leave": last_live(settings), "force": force}
        _run(Job.ROLLBACK, live_alias=_who(reason) | config)
    click.echo(f"{last_live(settings)} is live.")


@models.command()
@key
@yes
def retire(model: str, yes: bool) -> None:
    """Remove MODEL: its collection, vectors and partition.

    The live model cannot be removed.
    """
    settings = _require(lambda _, now: now.retire(model))
    if not yes:
        click.confirm(
            f"Drop the collection and vectors of {model}? This cannot be undone.", abort=True
        )
    click.echo(f"Running queries have {settings.retire_grace_seconds:g} s to finish.")
    _run(Job.RETIRE_MODEL, retire={"model": model})
    click.echo(f"{model} is retired.")


def _settings() -> Settings:
    """Return the settings, and use the Dagster instance of `rag-assets dev` if none is set."""
    settings = load_settings()
    services.require_milvus(settings)
    services.use_instance(settings)
    return settings


def _who(reason: str) -> dict[str, str]:
    return {"by": getpass.getuser(), "reason": reason}


def _require(move: Callable[[Any, Any], object]) -> Settings:
    """Refuse a move, of index and registry, that the run would refuse; return the settings."""
    settings = _settings()
    with working("Reading the registry of models"):
        from rag_assets.cli import moves  # noqa: PLC0415 - imports Dagster, which is slow

        moves.require_model_move(settings, move)
    return settings


def _run(job: str, **ops: dict[str, Any]) -> None:
    """Run a job in this process and show the gate's findings, if any; raise its error."""
    with working(f"Running the job {job}"):
        from rag_assets.cli.ingestion import run_step  # noqa: PLC0415 - imports Dagster

        findings, error = run_step(job, ops)
    _show_findings(findings)
    if error:
        raise RagAssetsError(error)


def _show_findings(findings: Sequence[Any]) -> None:
    if findings:
        rows = []
        for finding in findings:
            mark = Text("passed", "green") if finding.passed else Text("failed", "red")
            rows.append((finding.rule, mark, finding.evidence))
        SafeConsole().print(Listing(("rule", "", "evidence"), rows))


def _show_listing(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, as_json: bool) -> None:
    if as_json:
        names = [column.replace(" ", "_") for column in columns]
        echo_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        SafeConsole().print(Listing(columns, [tuple(map(str, row)) for row in rows]))


def _statuses(settings: Settings) -> list[Any]:
    with working("Reading the lake and Milvus"):
        from rag_assets.cli.ingestion import statuses  # noqa: PLC0415 - as above

        return statuses(settings)


def _cost(settings: Settings, model: str, rate: float) -> Any:
    with working(f"Estimating the cost of building {model}"):
        from rag_assets.cli.ingestion import preview  # noqa: PLC0415 - as above

        return preview(settings, model, rate)


def _show_cost(model: str, estimate: Any) -> None:
    rows = [
        ("chunks in the collection", f"{estimate.chunks:,}"),
        ("texts to embed", f"{estimate.texts_to_embed:,}"),
        ("tokens to embed", f"{estimate.tokens_to_embed:,}"),
        ("tokens per second", f"{estimate.tokens_per_second:,.0f} ({estimate.rate_from})"),
        ("GPU hours", f"{estimate.gpu_hours:,.2f}"),
        ("additional storage in the lake", _size(estimate.lake_bytes)),
        ("additional storage in Milvus", _size(estimate.milvus_bytes)),
        ("memory in Milvus, all replicas", _size(estimate.memory_bytes)),
    ]
    SafeConsole().print(Listing(("build", model), rows))


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e8 else f"{count / 1e6:,.2f} MB"  # noqa: PLR2004
