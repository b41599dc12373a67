"""Sensors ticked manually on a real instance, bucket and Milvus, and their requests run here."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.storage.schedules import SqliteScheduleStorage

from rag_assets.cli.ingestion import build_first_model
from rag_assets.core.sources.turns import read_cursor, write_cursor
from rag_assets.definitions import definitions
from rag_assets.defs.resources import KINDS, resolved
from rag_assets.settings import load_settings
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.s3_server import Bucket


@pytest.fixture
def instance(empty_bucket: None) -> Iterator[dg.DagsterInstance]:  # noqa: ARG001
    """An instance in memory, with one model."""
    with dg.DagsterInstance.ephemeral() as created:
        build_first_model(created, load_settings())
        yield created


def keep_ticks(instance: dg.DagsterInstance, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give an instance in memory a place for ticks, which only one on disk has."""
    storage = SqliteScheduleStorage.from_local(str(folder))
    monkeypatch.setattr(instance, "_schedule_storage", storage)


class Ticking:
    """A sensor that is ticked manually, with its cursor carried on."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        name: str,
        repository: dg.RepositoryDefinition | None = None,
    ) -> None:
        self.repository = repository or definitions().get_repository_def()
        self.sensor = self.repository.get_sensor_def(name)
        self.instance = instance
        self.cursor: str | None = None

    def tick(self, *, list_now: bool = True) -> dg.SensorResult:
        if list_now and self.sensor.name == "source_sensor" and self.cursor:
            listings = read_cursor(self.cursor).items()
            self.cursor = write_cursor({name: replace(state, due=0.0) for name, state in listings})
        settings, required = load_settings(), self.sensor.required_resource_keys
        context = dg.build_sensor_context(
            instance=self.instance,
            repository_def=self.repository,
            cursor=self.cursor,
            resources={name: resolved(settings, KINDS[name]) for name in required},
        )
        result = self.sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        for event in result.asset_events:  # as the daemon does
            self.instance.report_runless_asset_event(event)
        return result

    def run(self, request: dg.RunRequest) -> None:
        """Run what was requested, in this process."""
        assert request.job_name is not None
        result = self.repository.get_job(request.job_name).get_subset(
            asset_selection=set(request.asset_selection or []) or None,
            asset_check_selection=set(),
        ).execute_in_process(
            instance=self.instance, tags=dict(request.tags), run_config=request.run_config
        )  # fmt: skip
        assert result.success


def launch(ticking: Ticking, job: str, **ops: dict[str, Any]) -> dg.ExecuteInProcessResult:
    """Run a job of a model's life in this process, whatever becomes of it."""
    return ticking.repository.get_job(job).execute_in_process(
        instance=ticking.instance,
        run_config={"ops": {name: {"config": config} for name, config in ops.items()}},
        raise_on_error=False,
    )


def put(bucket: Bucket, *names: str) -> None:
    for name in names:
        bucket.put(f"docs/{name}", document(name).encode())


def settle(source: Ticking, index: Ticking) -> None:
    """Run everything that the sensors request until they request nothing."""
    for _ in range(10):
        requests = [*(source.tick().run_requests or ()), *(index.tick().run_requests or ())]
        for request in requests:
            (source if request.job_name == "ingest_documents" else index).run(request)
        if not requests:
            return
    pytest.fail("The sensors never stop requesting runs.")


def observed(result: dg.SensorResult) -> list[dg.AssetObservation]:
    """Return what a tick observed of the source."""
    return [event for event in result.asset_events if isinstance(event, dg.AssetObservation)]
