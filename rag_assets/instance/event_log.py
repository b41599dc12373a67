"""The one reader of Dagster's event log.

What belongs here: records of past materialisations, checks and processes, as plain values. What
does not: runs and their tags (`runs.py`), and writing events, which sensors and assets do.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import dagster as dg
import polars as pl
from dagster._core.definitions.data_version import (
    CODE_VERSION_TAG,
    DATA_VERSION_IS_USER_PROVIDED_TAG,
    DATA_VERSION_TAG,
    get_input_data_version_tag,
    get_input_event_pointer_tag,
)
from dagster._core.storage.asset_check_execution_record import (
    COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES,
)
from pydantic import TypeAdapter, ValidationError

from rag_assets.core.names import Asset
from rag_assets.core.reports import totals as sums
from rag_assets.core.reports.history import Numbers
from rag_assets.core.reports.spending import Spending, Spent
from rag_assets.core.reports.totals import Addend, Totals
from rag_assets.core.sources.source_ids import sources_of
from rag_assets.instance.partitions import split_model_shard
from rag_assets.instance.runs import lanes_of_runs

LAG_EVENTS = 200  # materialisations to read lags from
RATE_EVENTS = 50  # materialisations to read a model's rate from
PARSE_EVENTS = 500  # materialisations to read the parse time per document from
LIVE_EVENTS = 50  # materialisations to read the models from that were live
PAGE_SIZE = 500  # events per request
FIRST_EVENTS = 20  # of a run, one of which names its process
MAX_PAGES = 10  # per report; the next report continues with the rest

MODEL = "rag_assets/model"  # metadata of `live_alias`: the key of the model that became live
LAGS = "rag_assets/lags"  # metadata of `collection`: the table of lags
CERTIFICATE = "rag_assets/certificate"  # metadata of `erasures`: the certificate as JSON
LAG_CLASSES = "rag_assets/lag_classes"  # metadata of `collection`: the table of their numbers
SPENDING = "rag_assets/spending"  # the total up to the last report
TOTALS = "rag_assets/totals"  # what runs had done up to the last report
REPORTS = 100  # of an asset, whose numbers are drawn
Kept = TypeVar("Kept", Spending, Totals)
Fetch = Callable[[dg.AssetKey, int, str | None, bool], dg.EventRecordsResult]
_SPENDING, _TOTALS = TypeAdapter(Spending), TypeAdapter(Totals)


@dataclass(frozen=True, slots=True)
class Materialization:
    """One materialisation of an asset, or an observation of it.

    Attributes:
        partition: The partition key; empty if there is none.
        run_id: Id of the run; empty if a sensor reported the materialisation.
        timestamp: Seconds since the epoch.
        metadata: Its metadata.
    """

    partition: str
    run_id: str
    timestamp: float
    metadata: Mapping[str, Any]

    def metric(self, name: str) -> float:
        """Return the number in the metadata `rag_assets/<name>`; 0 if there is none."""
        recorded = self.metadata.get(f"rag_assets/{name}")
        return float(str(recorded.value or 0)) if recorded else 0.0


@dataclass(frozen=True, slots=True)
class RunProcess:
    """The process of a run, and when it recorded its id, in seconds since the epoch."""

    pid: int
    noted_at: float


def latest(instance: dg.DagsterInstance, asset: str | Sequence[str]) -> Materialization | None:
    """Return an asset's latest materialisation, if there is one."""
    return next(iter(recent(instance, asset, 1)), None)


def recent(
    instance: dg.DagsterInstance,
    asset: str | Sequence[str],
    limit: int,
    *,
    partitions: Sequence[str] | None = None,
) -> list[Materialization]:
    """Return an asset's latest materialisations, of all or some partitions, newest first."""
    selected = dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=partitions)
    return list(_read(instance.fetch_materializations(selected, limit=limit).records))


def recent_lags(instance: dg.DagsterInstance, partitions: Sequence[str] | None = None) -> pl.Series:
    """Return the lags of recent changes in seconds, float64, one for each changed document.

    Only those of some partitions of `collection`, if given.
    """
    return _lags(instance, partitions)["lag_seconds"]


def recent_lags_by_source(instance: dg.DagsterInstance) -> dict[str, pl.Series]:
    """Return the lags of recent changes in seconds, by the source of the document."""
    by_source = _lags(instance).group_by(source=sources_of())
    return {str(name): rows["lag_seconds"] for (name,), rows in by_source}


def _lags(instance: dg.DagsterInstance, partitions: Sequence[str] | None = None) -> pl.DataFrame:
    tables = [
        event.metadata.get(LAGS)
        for event in recent(instance, Asset.COLLECTION, LAG_EVENTS, partitions=partitions)
    ]
    rows = [
        (str(row.data["document_id"]), float(str(row.data["lag_seconds"])))
        for table in tables
        if isinstance(table, dg.TableMetadataValue)
        for row in table.records
    ]
    schema = {"document_id": pl.String, "lag_seconds": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def tokens_per_second(instance: dg.DagsterInstance, model: str) -> float:
    """Return a model's embedding rate in its recent runs; 0 if there are none."""
    events = [
        event
        for event in recent(instance, Asset.EMBEDDINGS, RATE_EVENTS)
        if event.partition.startswith(f"{model}|")
    ]
    seconds = sum(event.metric("seconds") for event in events)
    return sum(event.metric("tokens") for event in events) / seconds if seconds else 0.0


def parse_seconds(instance: dg.DagsterInstance) -> float:
    """Return the mean parse time per document in recent runs; 0 if there are none."""
    events = recent(instance, Asset.PARSED_DOCUMENTS, PARSE_EVENTS)
    parsing = [event for event in events if event.metric("parsed")]
    documents = sum(event.metric("parsed") for event in parsing)
    seconds = sum(event.metric("stage_seconds") for event in parsing)
    return seconds / documents if documents else 0.0


def spending(instance: dg.DagsterInstance, since: Spending | None = None) -> Spending:
    """Return the total spent on embedding: that of the last report, or `since`, plus later events.

    Reads a bounded part of the event log; the result's `complete` tells whether that was all.
    """
    total = since or _kept(instance, SPENDING, _SPENDING) or Spending()
    for page in _pages(instance.fetch_materializations, Asset.EMBEDDINGS, total.upto):
        events = [event for event in _read(page.records) if event.partition]
        total = total.plus(_spent(instance, events), page.cursor, complete=not page.has_more)
    return total


def totals(instance: dg.DagsterInstance, since: Totals | None = None) -> Totals:
    """Return what runs have done: the totals of the last report, or `since`, plus later events.

    Reads a bounded part of the event log, as `spending` does.
    """
    total = since or _kept(instance, TOTALS, _TOTALS) or Totals()
    complete = True
    for stream, (asset, addends) in STREAMS.items():
        observed = stream == OBSERVED
        fetch = instance.fetch_observations if observed else instance.fetch_materializations
        for page in _pages(fetch, asset, total.upto.get(stream, "")):
            events = [event for event in _read(page.records) if event.partition]
            lanes = lanes_of_runs(instance, {event.run_id for event in events})
            more = [one for event in events for one in addends(event, lanes[event.run_id])]
            total = total.plus(more, stream, page.cursor, complete=not page.has_more)
        complete = complete and total.complete
    return replace(total, complete=complete)


def keep(instance: dg.DagsterInstance, spent: Spending, done: Totals) -> None:
    """Keep totals, from which `spending` and `totals` continue.

    Beside the cursors of Dagster's daemon: a report's metadata would show them to people, and the
    event log would keep every one of them.
    """
    kept = {
        SPENDING: _SPENDING.dump_json(spent).decode(),
        TOTALS: _TOTALS.dump_json(done).decode(),
    }
    instance.daemon_cursor_storage.set_cursor_values(kept)


def numbers(instance: dg.DagsterInstance, report: str) -> list[Numbers]:
    """Return the numbers of the recent materialisations of a report, oldest first."""
    return [
        Numbers(
            event.timestamp,
            {
                name.removeprefix("rag_assets/"): float(recorded.value)
                for name, recorded in event.metadata.items()
                if isinstance(recorded.value, int | float)
            },
        )
        for event in reversed(recent(instance, report, REPORTS))
    ]


def models_made_live(instance: dg.DagsterInstance) -> list[str]:
    """Return the keys of the models that recent promotions made live, the latest last."""
    events = recent(instance, Asset.LIVE_ALIAS, LIVE_EVENTS)
    made_live = [str(event.metadata[MODEL].value) for event in events if MODEL in event.metadata]
    return made_live[::-1]


def check_evaluations(
    instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]
) -> dict[str, tuple[dg.AssetCheckEvaluation, str]]:
    """Return the latest (evaluation, run id) of each check that has one, by the check's name.

    That is the one before while a run is evaluating the check, or if it failed before it had.
    """
    history = instance.event_log_storage.get_asset_check_execution_history
    latest_by_check = {}
    for key in checks:
        for record in history(key, 1, status=COMPLETED_ASSET_CHECK_EXECUTION_RECORD_STATUSES):
            if record.evaluation is not None:
                latest_by_check[key.to_user_string()] = (record.evaluation, record.run_id)
    return latest_by_check


def newest_event(instance: dg.DagsterInstance) -> int:
    """Return the number of the newest event of any asset; 0 if there is none."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def provenance_tags(
    version: str, code_version: str, inputs: Mapping[str, str], newest: int
) -> dict[str, str]:
    """Return the tags that Dagster sets on a materialisation, by which it tells what is stale.

    Args:
        version: The partition's data version.
        code_version: The code version of its asset; the run's id, if that has none.
        inputs: Upstream asset → the data version that was used.
        newest: Number of an event not before those of the inputs, and before any later ones.
    """
    tags = {
        DATA_VERSION_TAG: version,
        DATA_VERSION_IS_USER_PROVIDED_TAG: "true",
        CODE_VERSION_TAG: code_version,
    }
    for asset, used in inputs.items():
        tags[get_input_data_version_tag(dg.AssetKey(asset))] = used
        tags[get_input_event_pointer_tag(dg.AssetKey(asset))] = str(newest)
    return tags


def latest_event(instance: dg.DagsterInstance, run_id: str) -> int:
    """Return the number of the latest event in a run's log; 0 if there is none."""
    records = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    return records[0].storage_id if records else 0


def run_process(instance: dg.DagsterInstance, run_id: str) -> RunProcess | None:
    """Return the process of a run; None if none has been started yet, or another launcher did."""
    engine = dg.DagsterEventType.ENGINE_EVENT
    for record in instance.get_records_for_run(run_id, of_type=engine, limit=FIRST_EVENTS).records:
        entry = record.event_log_entry
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "pid" in metadata and "step_keys" not in metadata:  # steps record their process too
            return RunProcess(int(str(metadata["pid"].value)), entry.timestamp)
    return None


def _pages(fetch: Fetch, asset: str, cursor: str) -> Iterator[dg.EventRecordsResult]:
    """Yield the pages of an asset's events after a cursor, oldest first; at most `MAX_PAGES`."""
    for _ in range(MAX_PAGES):
        page = fetch(dg.AssetKey(asset), PAGE_SIZE, cursor or None, True)
        yield page
        cursor = page.cursor
        if not page.has_more:
            return


def _read(records: Iterable[dg.EventLogRecord]) -> Iterator[Materialization]:
    for record in records:
        if event := record.asset_materialization or record.asset_observation:
            yield Materialization(
                event.partition or "", record.run_id, record.timestamp, event.metadata
            )


def _kept(instance: dg.DagsterInstance, name: str, kind: TypeAdapter[Kept]) -> Kept | None:
    """Return what is kept under a name; None if that is nothing readable."""
    kept = instance.daemon_cursor_storage.get_cursor_values({name}).get(name)
    try:
        return kind.validate_json(kept) if kept else None
    except ValidationError:
        return None


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
            reused=int(event.metric("reused") + event.metric("resumed")),
        )


def _documents(event: Materialization, lane: str) -> Iterator[Addend]:
    for what in (sums.PARSED, sums.REMOVED):
        yield (sums.DOCUMENTS, lane, what), event.metric(what)


def _rows(event: Materialization, lane: str) -> Iterator[Addend]:
    model = split_model_shard(event.partition)[0]
    if event.metric("written") or event.metric("deleted"):
        yield (sums.BATCHES, model, lane), 1
    recorded = event.metadata.get(LAG_CLASSES)
    for row in recorded.records if isinstance(recorded, dg.TableMetadataValue) else ():
        key = (sums.LAGS, model, str(row.data["source"]), str(row.data["class"]))
        yield key, float(str(row.data["changes"]))


def _repaired(event: Materialization, _: str) -> Iterator[Addend]:
    model = split_model_shard(event.partition)[0]
    yield (sums.REPAIRED, model, sums.SHARDS), 1
    for kind in (sums.MISSING, sums.EXTRA):
        yield (sums.REPAIRED, model, kind), event.metric(kind)


OBSERVED = "repaired"  # the stream of observations, which are those of the audit
STREAMS: Mapping[str, tuple[str, Callable[[Materialization, str], Iterable[Addend]]]] = {
    "parsed": (Asset.PARSED_DOCUMENTS, _documents),
    "written": (Asset.COLLECTION, _rows),
    OBSERVED: (Asset.COLLECTION, _repaired),
}
"""Stream → its asset, and what an event, in a lane, adds to the totals."""
