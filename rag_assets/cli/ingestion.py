"""Runs jobs in this process on behalf of commands, recorded on the same Dagster instance.

What belongs here: the commands' use of Dagster. What does not: options and output, which are in the
commands' own files; these import this module late, because importing Dagster is slow.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from rag_assets.adapters.source.sources import open_source
from rag_assets.cli.index import open_index
from rag_assets.cli.moves import require_source_move
from rag_assets.core.costs import CostReport
from rag_assets.core.erasure import Looked, Traces
from rag_assets.core.errors import ConfigurationError, ErasureError, PromotionRefusedError
from rag_assets.core.models.estimate import Preview
from rag_assets.core.models.gate import Finding
from rag_assets.core.models.spec import original_key
from rag_assets.core.names import Asset, Job, Tag
from rag_assets.core.reports.report import ModelStatus, Report, SourceStatus
from rag_assets.core.reports.shards import DoublingPreview
from rag_assets.core.sources.removals import Doubt, missing_by_folder
from rag_assets.core.sources.source_ids import belongs_to
from rag_assets.core.sources.survey import Survey
from rag_assets.core.tables import SOURCE_FILES, empty
from rag_assets.definitions import definitions
from rag_assets.defs.metadata import GATE_TABLE
from rag_assets.defs.resources import (
    ChunkerResource,
    CostsResource,
    GateResource,
    ParserResource,
    PrivacyResource,
    RetriesResource,
    SourcesResource,
    StreamResource,
    at_present,
    resolved,
)
from rag_assets.instance.erasure import Storage
from rag_assets.instance.event_log import CERTIFICATE, latest
from rag_assets.instance.execution import run_job_here
from rag_assets.instance.orchestrator import DagsterOrchestrator
from rag_assets.instance.partitions import model_shard_key
from rag_assets.instance.reports.costs import measured
from rag_assets.instance.reports.report import Memory, Reporter
from rag_assets.instance.runs import over
from rag_assets.instance.sources import source_statuses
from rag_assets.models.lifecycle import Lifecycle
from rag_assets.models.live import read_live
from rag_assets.models.promotion import Promotion
from rag_assets.models.registry import ModelRegistry, maintained_collections, read_records
from rag_assets.models.status import read_statuses
from rag_assets.pipeline.sources.doubt import read_doubts
from rag_assets.pipeline.sources.records import Holdings, holdings
from rag_assets.pipeline.sources.stored_listings import read_files
from rag_assets.pipeline.upkeep.doubling import read_distribution
from rag_assets.pipeline.upkeep.erasure import Erasure
from rag_assets.pipeline.upkeep.erasure_records import request
from rag_assets.settings import Settings

if TYPE_CHECKING:
    from rag_assets.instance.reports.metrics import Exporter

Metrics = dict[str, dict[str, float]]
REASON = "command line"  # tag of the runs


def ingest(settings: Settings) -> Metrics:
    """Bring the model of the settings in sync with the source, and make it live unless it is.

    Runs `ingest_documents`, `index_chunks` and `promote` in this process, recorded on the
    instance of DAGSTER_HOME. The environment must hold the same settings.

    Returns:
        Asset → metric → sum over the asset's partitions.
    """
    with dg.DagsterInstance.get() as instance:
        with open_lifecycle(instance, settings) as life:
            live = ModelRegistry(life.index).read().live
            model = live if live and original_key(live) == settings.model else settings.model
            life.register(model)
            life.build(model, concurrent=True)
            shards = life.index.shards
        metrics = run_job(Job.INGEST_DOCUMENTS, shards)
        rows = [str(model_shard_key(model, shard)) for shard in shards]
        metrics |= run_job(Job.INDEX_CHUNKS, rows)
        in_sync = next(status.in_sync for status in statuses(settings) if status.model == model)
        if in_sync < len(shards):  # filled while another model was live: read it back
            filled, read_back = metrics[Asset.COLLECTION], run_job(Job.INDEX_CHUNKS, rows)
            metrics[Asset.COLLECTION] = _added(filled, read_back[Asset.COLLECTION])
    if live == model:
        return metrics
    going_live = {"model": model, "by": "rag-assets", "reason": "ingestion from the command line"}
    results, error = run_step(Job.PROMOTE, {Asset.LIVE_ALIAS: going_live})
    if error:
        evidence = [f"{result.rule}: {result.evidence}" for result in results if not result.passed]
        raise PromotionRefusedError(". ".join([error, *evidence]))
    return metrics


def take_stock() -> None:
    """Run every check and make the reports, once, so that the UI shows more than their names.

    What fails here is shown there: it is no failure of the ingestion that went before.
    """
    for job in (Job.RUN_CHECKS, Job.EVALUATE_LIVE, Job.REPORT):
        execute(job, raise_on_error=False)


@contextmanager
def open_lifecycle(instance: dg.DagsterInstance, settings: Settings) -> Iterator[Lifecycle]:
    """Open the lifecycle of the models on an instance, with the resources of the settings."""
    with open_index(settings) as index:
        yield Lifecycle(index, DagsterOrchestrator(instance))


def run_job(job: str, partitions: Sequence[str] = ()) -> Metrics:
    """Run a job over a contiguous range of partitions; re-raises the error of a failed step."""
    return _sums(execute(job, partitions).get_asset_materialization_events())


def execute(
    job: str,
    partitions: Sequence[str] = (),
    *,
    ops: Mapping[str, Any] | None = None,
    raise_on_error: bool = True,
) -> dg.JobExecutionResult:
    """Run a job in this process, recorded on the instance of DAGSTER_HOME."""
    with dg.DagsterInstance.get() as instance:
        return run_job_here(
            instance,
            definitions().resolve_job_def(job),
            run_config={
                "ops": ops or {},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
            tags={Tag.REASON: REASON, **over(partitions)},
            raise_on_error=raise_on_error,
        )


@dataclass(frozen=True, slots=True)
class RuleResult:
    """The result of one rule of the gate."""

    rule: str
    passed: bool
    evidence: str


def run_step(job: str, ops: Mapping[str, Any]) -> tuple[list[RuleResult], str]:
    """Run a job of the lifecycle; return the gate's results, and the run's error if it failed."""
    configured = {name: {"config": config} for name, config in ops.items()}
    result = execute(job, ops=configured, raise_on_error=False)
    results = [
        row for check in result.get_asset_check_evaluations() for row in _rule_results(check)
    ]
    errors = [
        event.step_failure_data.error
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE
    ]
    if result.success or not errors or errors[0] is None:
        return results, "" if result.success else f"The run of {job} failed; see the UI."
    failed = [rule.rule for rule in results if not rule.passed]
    if failed:
        return results, f"The gate refuses: {', '.join(failed)}."
    cause = errors[0].cause or errors[0]
    return results, cause.message.partition(": ")[2].strip() or cause.message


def _rule_results(check: dg.AssetCheckEvaluation) -> list[RuleResult]:
    """Return the rules that a check of the gate covers: it has a table of them, or is one."""
    table = check.metadata.get(GATE_TABLE)
    if not isinstance(table, dg.TableMetadataValue):
        return [RuleResult(check.check_name, check.passed, check.description or "")]
    rows = [{name: str(value) for name, value in row.data.items()} for row in table.records]
    return [RuleResult(row["rule"], row["passed"] == "yes", row["evidence"]) for row in rows]


def statuses(settings: Settings) -> list[ModelStatus]:
    """Return the status of every model."""
    with open_index(settings) as index:
        return read_statuses(index)


def last_live(settings: Settings) -> str:
    """Return the key of the live model or, if the alias is missing, of the one last live."""
    with open_index(settings) as index:
        return ModelRegistry(index).read().last_live or ""


def live_message(settings: Settings) -> str:
    """Return what queries are answered from and, if that is not as it should be, what to do."""
    with open_index(settings) as index:
        return read_live(index)[2].message


def roll_back(settings: Settings, *, force: bool) -> list[Finding]:
    """Roll back without Dagster; return the findings."""
    with open_index(settings) as index:
        promotion = Promotion(index, resolved(settings, GateResource).policy())
        target = promotion.registry.read().rollback_target()
        return promotion.roll_back(target, force=force)[1]


def report(settings: Settings) -> Report:
    """Return the state of ingestion, as the asset `ingestion_report` shows it."""
    with dg.DagsterInstance.get() as instance:
        return read_report(instance, settings)


def read_report(
    instance: dg.DagsterInstance, settings: Settings, memory: Memory | None = None
) -> Report:
    """Return the state of ingestion, on an open instance.

    With a memory, which a process that stays keeps, only what has changed is read, and the sources
    are in the report although there is only one.
    """
    settings, _ = at_present(settings)
    retries, chunker = resolved(settings, RetriesResource), resolved(settings, ChunkerResource)
    parser, stream = resolved(settings, ParserResource), resolved(settings, StreamResource)
    with open_index(settings) as index:
        return Reporter(
            instance,
            index,
            resolved(settings, SourcesResource).open(index),
            retries.policy(),
            parser.version,
            chunker.version,
            stream.stream_documents,
            stream.stream_chunks,
            memory or Memory(),
        ).read()


@contextmanager
def open_exporter(settings: Settings) -> "Iterator[Exporter]":
    """Open the exporter of ingestion's metrics, which has collected nothing yet."""
    with dg.DagsterInstance.get() as instance:
        yield exporter_of(instance, settings)


def exporter_of(instance: dg.DagsterInstance, settings: Settings) -> "Exporter":
    """Do the same as `open_exporter`, on an open instance."""
    from rag_assets.instance.reports.metrics import Exporter, Readings  # noqa: PLC0415 - for this command

    checks = definitions().get_repository_def().asset_graph.asset_check_keys
    read = partial(read_report, instance, settings)
    readings = Readings(instance, read, checks, settings.max_lag_seconds)
    return Exporter(readings, settings.metrics_seconds)


def doubted_removals(settings: Settings) -> list[tuple[Doubt, pl.DataFrame]]:
    """Return the removals that are doubted, each with the folders it concerns."""
    with open_index(settings) as index:
        doubts = read_doubts(index.lake)
        files = read_files(index.lake, index.shards) if doubts else empty(SOURCE_FILES)
        return [
            (doubt, missing_by_folder(files.filter(belongs_to(name))))
            for name, doubt in doubts.items()
        ]


def sources_now(settings: Settings) -> list[SourceStatus]:
    """Return the status of every source."""
    with dg.DagsterInstance.get() as instance, open_index(settings) as index:
        sources = resolved(settings, SourcesResource).open(index)
        return source_statuses(instance, index.lake, index.shards, sources)


def survey(settings: Settings, name: str) -> Survey:
    """Return what a declared source would add.

    Raises:
        ConfigurationError: It is not declared, or its credentials are refused.
        MoveRefusedError: It cannot be added now.
        SourceError: It cannot be listed.
    """
    specs = resolved(settings, SourcesResource).specs()
    if name not in specs:
        known = ", ".join(specs) or "none"
        raise ConfigurationError(f"There is no source {name!r}; declared are: {known}.")
    require_source_move(settings, lambda now: now.add(name, specs[name]))
    return Survey.of(open_source(name, specs[name]).files())


def held_of(settings: Settings, name: str) -> Holdings:
    """Return what the index has of a source.

    Raises:
        MoveRefusedError: It has not been added.
        VectorStoreError: Milvus is unreachable.
    """
    with open_index(settings) as index:
        resolved(settings, SourcesResource).open(index).records.remove(name)
        return holdings(index, name, read_records(index.lake).maintained)


@contextmanager
def open_erasure(settings: Settings, document_ids: frozenset[str]) -> Iterator[Erasure]:
    """Open the erasure of some documents."""
    with open_index(settings) as index:
        yield Erasure(index, resolved(settings, SourcesResource).open(index), document_ids)


def find(settings: Settings, document_ids: frozenset[str]) -> tuple[dict[str, str], list[Looked]]:
    """Look for documents everywhere; return those that must not be erased, and what is found."""
    traces, folders = Traces.of(document_ids), resolved(settings, PrivacyResource).log_folders()
    with open_erasure(settings, document_ids) as erasure, dg.DagsterInstance.get() as instance:
        refused = erasure.refusals()
        storage = Storage(instance, traces, folders)
        return refused, [*erasure.look(), *storage.look()] if not refused else []


def erase(settings: Settings, document_ids: frozenset[str]) -> dict[str, Any]:
    """Erase documents, by a run of the job; return the certificate.

    Raises:
        ErasureError: They could not be erased.
    """
    with open_index(settings) as index:
        request(index.lake, document_ids)
    _, error = run_step(Job.ERASE_DOCUMENTS, {})
    if error:
        raise ErasureError(error)
    with dg.DagsterInstance.get() as instance:
        issued = latest(instance, Asset.ERASURES)
    if issued is None or CERTIFICATE not in issued.metadata:
        raise ErasureError("The run has left no certificate: repeat this.")
    certificate = issued.metadata[CERTIFICATE].value
    return {**certificate, "digest": issued.metadata["rag_assets/digest"].value}


def cost_report(settings: Settings, given: Mapping[str, Any]) -> CostReport:
    """Evaluate the cost model with this instance's measurements; `given` overrides them."""
    settings, _ = at_present(settings)
    inputs = replace(resolved(settings, CostsResource).inputs(), given=given)
    with dg.DagsterInstance.get() as instance:
        return inputs.evaluate(measured(instance, open_index(settings)))


def doubling_preview(settings: Settings) -> DoublingPreview:
    """Return what doubling the shards would do; refuse if there would be too many."""
    with open_index(settings) as index:
        if not index.lake.unsplit:
            index.layout.require_room()
        written = [target for target in maintained_collections(index) if target.exists]
        return DoublingPreview(
            read_distribution(index),
            {target.name: index.store.count(target.name) for target in written},
            unfinished=index.lake.unsplit,
        )


def preview(settings: Settings, model: str, tokens_per_second: float) -> Preview:
    """Estimate the cost of building a model."""
    with dg.DagsterInstance.get() as instance, open_lifecycle(instance, settings) as life:
        return life.preview(model, tokens_per_second)


def register_first_model(settings: Settings, dagster_home: str) -> None:
    """Register the model of the settings and have it built, unless there are models already."""
    with dg.DagsterInstance.from_config(dagster_home) as instance:
        build_first_model(instance, settings)


def build_first_model(instance: dg.DagsterInstance, settings: Settings) -> None:
    """Do the same as `register_first_model`, on an open instance."""
    with open_lifecycle(instance, settings) as life:
        if not read_records(life.index.lake).maintained:
            life.register(settings.model)
            life.build(settings.model)


def _added(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: value + other.get(name, 0) for name, value in one.items()}


def _sums(events: Sequence[dg.DagsterEvent]) -> Metrics:
    sums: Metrics = {}
    for event in events:
        materialization = event.step_materialization_data.materialization
        metrics = sums.setdefault(materialization.asset_key.to_user_string(), {})
        for name, metadata in materialization.metadata.items():
            if isinstance(metadata, dg.IntMetadataValue | dg.FloatMetadataValue):
                metric = name.removeprefix("rag_assets/")
                metrics[metric] = metrics.get(metric, 0) + (metadata.value or 0)
    return sums
