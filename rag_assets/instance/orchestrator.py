"""The lifecycle's access to Dagster: a model's partition, its runs, and their rate.

What belongs here: implementing `models.lifecycle.Orchestrator`. What does not: the steps of the
lifecycle (`models/lifecycle.py`).
"""

import time
from dataclasses import dataclass

import dagster as dg

from rag_assets.core.errors import ConfigurationError
from rag_assets.core.names import Partition
from rag_assets.instance import event_log
from rag_assets.instance.runs import runs_of_model

CANCEL_TIMEOUT = 120.0  # seconds for cancelled runs to end
POLL_INTERVAL = 0.5  # seconds


@dataclass(frozen=True, slots=True)
class DagsterOrchestrator:
    """`models.lifecycle.Orchestrator` on a Dagster instance."""

    instance: dg.DagsterInstance

    def add_model(self, key: str) -> None:
        """Add the key to the dynamic partitions."""
        self.instance.add_dynamic_partitions(Partition.MODEL, [key])

    def remove_model(self, key: str) -> None:
        """Remove the key from the dynamic partitions, if it is there."""
        if self.instance.has_dynamic_partition(Partition.MODEL, key):
            self.instance.delete_dynamic_partition(Partition.MODEL, key)

    def end_runs(self, key: str) -> None:
        """Cancel the model's unfinished runs, and wait for them to end.

        Raises:
            ConfigurationError: A run does not end within two minutes.
        """
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

    def tokens_per_second(self, key: str) -> float:
        """Return the model's embedding rate in its recent runs; 0 if there are none."""
        return event_log.tokens_per_second(self.instance, key)
