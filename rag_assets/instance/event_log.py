"""The one reader of Dagster's event log.

What belongs here: what earlier materialisations and check evaluations recorded, as plain values.
What does not: runs and their tags (`runs.py`), and writing events, which sensors and assets do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import polars as pl
from pydantic import TypeAdapter, ValidationError

from rag_assets.core.names import Asset
from rag_assets.core.reports.spending import Spending, Spent
from rag_assets.instance.partitions import split_model_shard
from rag_assets.instance.runs import lanes_of_runs

LAG_EVENTS = 200  # materialisations that lags are read from
RATE_EVENTS = 50  # materialisations that a model's rate is read from
PARSE_EVENTS = 500  # materialisations that the seconds to parse a document are read from
PAGE = 500  # events read at once
PAGES = 10  # of them in one report: what is left is added up by the next ones

LAGS = "rag_assets/lags"  # the table of lags in a materialisation of `collection`
SPENDING = "rag_assets/spending"  # the sum so far, from which the next report continues
_SPENDING = TypeAdapter(Spending)


@dataclass(frozen=True, slots=True)
class Materialization:
    """One materialisation of an asset.

    Attributes:
        partition: The partition key; empty without one.
        run_id: Of the run that made it; empty if a sensor reported it.
        timestamp: Seconds since the epoch.
        metadata: What it recorded.
    """

    partition: str
    run_id: str
    timestamp: float
    metadata: Mapping[str, Any]

    def metric(self, name: str) -> float:
        """Return a number that it recorded as `rag_assets/<name>`; 0 if it has none."""
        recorded = self.metadata.get(f"rag_assets/{name}")
        return float(str(recorded.value or 0)) if recorded else 0.0


@dataclass(frozen=True, slots=True)
class RunProcess:
    """The process of a run, which noted its id at a time in seconds since the epoch."""

    pid: int
    noted_at: float


def latest(instance: dg.DagsterInstance, asset: str) -> Materialization | None:
    """Return an asset's newest materialisation, if there is one."""
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    if event is None or event.asset_materialization is None:
        return None
    made = event.asset_materialization
    return Materialization(made.partition or "", event.run_id, event.timestamp, made.metadata)


def recent(
    instance: dg.DagsterInstance,
    asset: str,
    limit: int,
    *,
    partitions: Sequence[str] | None = None,
) -> list[Materialization]:
    """Return an asset's newest materialisations, the newest first.

    Args:
        instance: Has the events.
        asset: Its name.
        limit: Maximum number of them.
        partitions: Only of these partitions; None: of all.
    """
    desired = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=partitions)
    return list(_read(instance.fetch_materializations(desired, limit=limit).records))


def recent_lags(instance: dg.DagsterInstance, partitions: Sequence[str] | None = None) -> pl.Series:
    """Return the seconds until recent changes could be found, float64, one for each document.

    Args:
        instance: Has the events.
        partitions: Only of these partitions of `collection`; None: of all.
    """
    tables = [
        event.metadata.get(LAGS)
        for event in recent(instance, Asset.COLLECTION, LAG_EVENTS, partitions=partitions)
    ]
    lags = [
        float(str(row.data["lag_seconds"]))
        for table in tables
        if isinstance(table, dg.TableMetadataValue)
        for row in table.records
    ]
    return pl.Series(lags, dtype=pl.Float64)


def tokens_per_second(instance: dg.DagsterInstance, model: str) -> float:
    """Return the rate at which a model's last runs embedded; 0 without one."""
    events = [
        event
        for event in recent(instance, Asset.EMBEDDINGS, RATE_EVENTS)
        if event.partition.startswith(f"{model}|")
    ]
    seconds = sum(event.metric("seconds") for event in events)
    return sum(event.metric("tokens") for event in events) / seconds if seconds else 0.0


def parse_seconds(instance: dg.DagsterInstance) -> float:
    """Return the mean seconds in which recent runs parsed a document; 0 without one."""
    events = recent(instance, Asset.PARSED_DOCUMENTS, PARSE_EVENTS)
    parsing = [event for event in events if event.metric("parsed")]
    documents = sum(event.metric("parsed") for event in parsing)
    seconds = sum(event.metric("stage_seconds") for event in parsing)
    return seconds / documents if documents else 0.0


def spending(instance: dg.DagsterInstance) -> Spending:
    """Return what embedding has cost so far: the last report's sum, and what came since.

    Reads a bounded part of the event log; `complete` of the result tells whether that was all.
    """
    total = _reported_spending(instance)
    for _ in range(PAGES):
        page = instance.fetch_materializations(
            dg.AssetKey(Asset.EMBEDDINGS), limit=PAGE, cursor=total.upto or None, ascending=True
        )
        events = [event for event in _read(page.records) if event.partition]
        total = total.plus(_spent(instance, events), page.cursor, complete=not page.has_more)
        if total.complete:
            break
    return total


def spending_metadata(total: Spending) -> dict[str, Any]:
    """Return a sum as metadata of a report, from which `spending` continues."""
    return {SPENDING: dg.MetadataValue.json(_SPENDING.dump_python(total, mode="json"))}


def check_evaluations(
    instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]
) -> dict[str, tuple[dg.AssetCheckEvaluation, str]]:
    """Return the last evaluation and its run's id of each check that has one, by its name."""
    found = {}
    for key in checks:
        record = instance.get_latest_asset_check_evaluation_record(key)
        if record is not None and record.evaluation is not None:
            found[key.to_user_string()] = (record.evaluation, record.run_id)
    return found


def run_process(instance: dg.DagsterInstance, run_id: str) -> RunProcess | None:
    """Return the process that was started for a run; None if none was, or not yet."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "pid" in metadata and "step_keys" not in metadata:  # steps note their process as well
            return RunProcess(int(str(metadata["pid"].value)), entry.timestamp)
    return None


def _read(records: Iterable[dg.EventLogRecord]) -> Iterator[Materialization]:
    for record in records:
        if made := record.asset_materialization:
            yield Materialization(
                made.partition or "", record.run_id, record.timestamp, made.metadata
            )


def _reported_spending(instance: dg.DagsterInstance) -> Spending:
    """Return the last report's sum; an empty one if there is none that can be read."""
    report = latest(instance, Asset.INGESTION_REPORT)
    recorded = report.metadata.get(SPENDING) if report else None
    try:
        return _SPENDING.validate_python(recorded.value) if recorded else Spending()
    except ValidationError:
        return Spending()


def _spent(instance: dg.DagsterInstance, events: Sequence[Materialization]) -> Iterator[Spent]:
    lanes = lanes_of_runs(instance, {event.run_id for event in events})
    for event in events:
        yield Spent(
            model=split_model_shard(event.partition)[0],
            lane=lanes[event.run_id],
            texts=int(event.metric("computed")),
            tokens=int(event.metric("tokens")),
            seconds=event.metric("seconds"),
            gpu_seconds=event.metric("gpu_seconds"),
        )
