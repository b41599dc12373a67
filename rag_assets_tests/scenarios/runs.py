"""What Dagster has noted of runs, for the messages of tests that fail."""

import re
import time

import dagster as dg

from rag_assets.core.names import Tag


def recent_runs(instance: dg.DagsterInstance) -> str:
    """Describe the last runs, the newest first; of those that failed, also the error."""
    lines = []
    for record in instance.get_run_records(limit=15):
        run = record.dagster_run
        seconds = round((record.end_time or time.time()) - record.create_timestamp.timestamp())
        tags = f"{run.tags.get(Tag.LANE)} {run.tags.get(Tag.ENDING)}"
        lines.append(f"{run.job_name} {run.status.value} {tags} {seconds} s")
        if run.status is dg.DagsterRunStatus.FAILURE:
            lines += re.findall(r"\w+Error: .*", messages(instance, run.run_id))[-1:]
    return "\n".join(lines)


def messages(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return everything that Dagster has noted of a run, errors with their causes."""
    found = []
    for entry in instance.all_logs(run_id):
        data = entry.dagster_event and entry.dagster_event.event_specific_data
        error = getattr(data, "error", None)
        found.append(entry.user_message or entry.message)
        while error is not None:
            found.append(error.to_string())
            error = error.cause
    return "\n".join(found)
