"""Jobs from a program instead of the UI: the same ones, as runs on the same instance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from rag_assets import costs
from rag_assets.assets import live_alias
from rag_assets.assets.ingestion_report import spending_before
from rag_assets.core.build_preview import Preview
from rag_assets.core.cost_sections import CostReport
from rag_assets.core.errors import PromotionRefusedError
from rag_assets.core.identity import shard_keys
from rag_assets.core.report import Report
from rag_assets.definitions import definitions
from rag_assets.lifecycle import Lifecycle, Standing
from rag_assets.partitions import model_shard_key
from rag_assets.report import Reporter, spending
from rag_assets.resources import (
    ChunkerResource,
    LakeResource,
    MilvusResource,
    ModelsResource,
    build_resources,
)
from rag_assets.runs import RANGE_END, RANGE_START
from rag_assets.settings import Settings

Figures = dict[str, dict[str, float]]


def ingest(settings: Settings) -> Figures:
    """Bring the model of the settings in step with the source and make it live.

    Runs `ingest_documents`, `index_chunks` and `promote` in this process, recorded on the
    instance of DAGSTER_HOME. The environment must hold the same settings.

    Returns:
        For each asset the sums over its partitions of the figures it reports.
    """
    model, shards = settings.model, shard_keys(settings.shards)
    with dg.DagsterInstance.get() as instance:
        life = lifecycle(instance, settings)
        life.register(model)
        life.build(model, beside=True)
        figures = run_job("ingest_documents", shards)
        rows = [str(model_shard_key(model, shard)) for shard in shards]
        figures |= run_job("index_chunks", rows)
        if _standing(life, model) < len(shards):  # it was filled beside a live one: read it back
            again = run_job("index_chunks", rows)
            figures["collection"] = _added(figures["collection"], again["collection"])
    live = {"model": model, "by": "rag-assets", "reason": "ingestion from the command line"}
    shown, error = run_step("promote", {live_alias.NAME: live})
    if error:
        evidence = [f"{found.rule}: {found.evidence}" for found in shown if not found.passed]
        raise PromotionRefusedError(". ".join([error, *evidence]))
    return figures


def lifecycle(instance: dg.DagsterInstance, settings: Settings) -> Lifecycle:
    """Return the models' life on an instance, with the resources of the settings."""
    resources = build_resources(settings)
    lake, models, milvus = (resources[name] for name in ("lake", "models", "milvus"))
    assert isinstance(lake, LakeResource)
    assert isinstance(models, ModelsResource)
    assert isinstance(milvus, MilvusResource)
    return Lifecycle(instance, lake, models, milvus)


def run_job(
    job: str, partitions: Sequence[str] = (), *, ops: Mapping[str, Any] | None = None
) -> Figures:
    """Run a job over a contiguous range of partitions; raises what its failing step raises."""
    return _sums(execute(job, partitions, ops=ops).get_asset_materialization_events())


def execute(
    job: str,
    partitions: Sequence[str] = (),
    *,
    ops: Mapping[str, Any] | None = None,
    raise_on_error: bool = True,
) -> dg.ExecuteInProcessResult:
    """Run a job in this process, recorded on the instance of DAGSTER_HOME."""
    span = {RANGE_START: partitions[0], RANGE_END: partitions[-1]} if partitions else {}
    with dg.DagsterInstance.get() as instance:
        return (
            definitions()
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance,
                tags=span,
                raise_on_error=raise_on_error,
                run_config={
                    "ops": ops or {},
                    "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                },
            )
        )


@dataclass(frozen=True, slots=True)
class Shown:
    """What became of one of the gate's rules."""

    rule: str
    passed: bool
    evidence: str


def run_step(job: str, ops: Mapping[str, Any]) -> tuple[list[Shown], str]:
    """Run a job of a model's life; return what the gate found, and what the run failed with."""
    configured = {name: {"config": config} for name, config in ops.items()}
    result = execute(job, ops=configured, raise_on_error=False)
    shown = [row for found in result.get_asset_check_evaluations() for row in _shown(found)]
    errors = [
        event.step_failure_data.error
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE
    ]
    if result.success or not errors or errors[0] is None:
        return shown, "" if result.success else f"The run of {job} failed; the UI shows why."
    refused = [found.rule for found in shown if not found.passed]
    if refused:
        return shown, f"The gate refuses: {', '.join(refused)}."
    cause = errors[0].cause or errors[0]
    return shown, cause.message.partition(": ")[2].strip() or cause.message


def _shown(check: dg.AssetCheckEvaluation) -> list[Shown]:
    """Return a check of the gate by its rules: it has a table of them, or is one."""
    table = check.metadata.get(live_alias.GATE_TABLE)
    if not isinstance(table, dg.TableMetadataValue):
        return [Shown(check.check_name, check.passed, check.description or "")]
    rows = [{name: str(value) for name, value in row.data.items()} for row in table.records]
    return [Shown(row["rule"], row["passed"] == "yes", row["evidence"]) for row in rows]


def standings(settings: Settings) -> list[Standing]:
    """Return where every model stands."""
    with dg.DagsterInstance.get() as instance:
        return lifecycle(instance, settings).standings()


def report(settings: Settings) -> Report:
    """Return how things stand, as the asset `ingestion_report` says it."""
    with dg.DagsterInstance.get() as instance:
        return read_report(instance, settings)


def read_report(instance: dg.DagsterInstance, settings: Settings) -> Report:
    """As `report`, on an instance that is open."""
    life, chunker = lifecycle(instance, settings), build_resources(settings)["chunker"]
    assert isinstance(chunker, ChunkerResource)
    reporter = Reporter(instance, settings, life.lake, chunker, life.models, life.milvus)
    return reporter.read(spending_before(instance))


def cost_report(settings: Settings, given: Mapping[str, Any]) -> CostReport:
    """Work out the cost model with what this instance has measured; `given` replaces that."""
    with dg.DagsterInstance.get() as instance:
        lake = lifecycle(instance, settings).lake.open()
        spent = spending(instance, spending_before(instance))
        return costs.cost_report(settings, costs.measured(instance, lake, spent), **given)


def preview(settings: Settings, model: str, tokens_per_second: float) -> Preview:
    """Estimate what building a model takes."""
    with dg.DagsterInstance.get() as instance:
        return lifecycle(instance, settings).preview(model, tokens_per_second)


def register_first_model(settings: Settings, dagster_home: str) -> None:
    """Register the model of the settings and have it built, unless there are models already."""
    with dg.DagsterInstance.from_config(dagster_home) as instance:
        build_first_model(instance, settings)


def build_first_model(instance: dg.DagsterInstance, settings: Settings) -> None:
    """As `register_first_model`, on an instance that is open."""
    life = lifecycle(instance, settings)
    if not life.fed():
        life.register(settings.model)
        life.build(settings.model)


def _standing(life: Lifecycle, model: str) -> int:
    return next(standing.in_step for standing in life.standings() if standing.model == model)


def _added(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: value + other.get(name, 0) for name, value in one.items()}


def _sums(events: Sequence[dg.DagsterEvent]) -> Figures:
    sums: Figures = {}
    for event in events:
        materialization = event.step_materialization_data.materialization
        figures = sums.setdefault(materialization.asset_key.to_user_string(), {})
        for name, metadata in materialization.metadata.items():
            if isinstance(metadata, dg.IntMetadataValue | dg.FloatMetadataValue):
                figure = name.removeprefix("rag_assets/")
                figures[figure] = figures.get(figure, 0) + (metadata.value or 0)
    return sums
