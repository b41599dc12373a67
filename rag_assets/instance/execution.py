"""Runs jobs in this process as runs of the code location, so that the UI shows them with the rest.

What belongs here: what makes a run belong to the code location. What does not: which jobs commands
run (`cli/ingestion.py`).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import (
    RegisteredCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)

from rag_assets.core.names import LOCATION

REPOSITORY = "__repository__"  # Dagster's name for that of a `dg.Definitions`


def run_job_here(
    instance: dg.DagsterInstance,
    job: dg.JobDefinition,
    *,
    run_config: Mapping[str, Any],
    tags: Mapping[str, str],
    raise_on_error: bool,
) -> dg.JobExecutionResult:
    """Run a job in this process, recorded as a run of the code location.

    `execute_in_process` records no code location. Such a run is missing from the timeline and from
    the job's page, and a sensor that watches the location's runs does not see it.
    """
    location = RegisteredCodeLocationOrigin(LOCATION)
    run = instance.create_run_for_job(
        job,
        run_config=run_config,
        tags={**job.run_tags, **tags},
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(location, REPOSITORY), job.name),
    )
    return execute_run(InMemoryJob(job), run, instance, raise_on_error=raise_on_error)
