"""The lifecycle's access to Dagster: a model's partition, its runs, and their rate.

What belongs here: implementing `models.lifecycle.Orchestrator`. What does not: the steps of the
lifecycle (`models/lifecycle.py`).
"""

import time
from dataclasses import dataclass

import dagster as dg
from typing_extensions import override

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.names import Partition
from rag_assets.instance import event_log
from rag_assets.instance.runs import runs_of_model
from rag_assets.models.lifecycle import Orchestrator

CANCEL_TIMEOUT = 120.0  # seconds for cancelled runs to end
POLL_INTERVAL = 0.5  # seconds


@dataclass(frozen=True)
class DagsterOrchestrator(Orchestrator):
    """`models.lifecycle.Orchestrator` on a Dagster instance."""

    instance: dg.DagsterInstance

    @override
    def add_model(self, key: str) -> None:
        self.instance.add_dynamic_partitions(Partition.MODEL, [key])

    @override
    def remove_model(self, key: str) -> None:
        if self.instance.has_dynamic_partition(Partition.MODEL, key):
            self.instance.delete_dynamic_partition(Partition.MODEL, key)

    @override
    def end_runs(self, key: str) -> None:
        until = time.monotonic() + CANCEL_TIMEOUT
        for run in runs_of_model(self.instance, key):
            self.instance.run_coordinator.cancel_run(run.run_id)
        while running := runs_of_model(self.instance, key):
            if time.monotonic() > until:
                raise ConfigurationError(
                    f"Runs of {key} have not ended: {', '.join(run.run_id for run in running)}."
                    " Terminate them in the UI, then repeat this step."
                )
            time.sleep(POLL_INTERVAL)

    @override
    def tokens_per_second(self, key: str) -> float:
        return event_log.tokens_per_second(self.instance, key)
