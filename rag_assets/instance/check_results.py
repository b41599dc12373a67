"""Results of checks that are reported without a run, so that the UI keeps showing them.

The UI shows a check as not evaluated unless its result is newer than the latest materialisation of
its asset, refers to it, or comes from the same run.

What belongs here: making such results. What does not: what a check finds (`defs/checks/`), and
reading results (`event_log.py`).
"""

from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData as Target,
)

from rag_assets.instance.event_log import check_evaluations


def without_run(
    result: dg.AssetCheckResult | dg.AssetCheckEvaluation, target: Target | None = None
) -> dg.AssetCheckEvaluation:
    """Return the result of a check of a named asset as an evaluation outside of a run."""
    assert result.asset_key is not None
    return dg.AssetCheckEvaluation(
        asset_key=result.asset_key,
        check_name=result.check_name or "",
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
        target_materialization_data=target,
    )


def latest_target(instance: dg.DagsterInstance, asset: str) -> Target | None:
    """Return what a result refers to that is reported at once after a materialisation.

    Without it, the UI compares times, which SQLite notes by the second.
    """
    for record in instance.fetch_materializations(dg.AssetKey(asset), limit=1).records:
        return Target(
            storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
        )
    return None


def results_of_runs(
    instance: dg.DagsterInstance, checks: Iterable[dg.AssetCheckKey]
) -> list[dg.AssetCheckEvaluation]:
    """Return the latest results of checks that runs have evaluated, to be reported without a run.

    A heartbeat is a materialisation without a run, and would hide the results of all checks of its
    asset. It hides none that are reported as it is: to the UI they are of the same run.
    """
    return [
        without_run(evaluation)
        for evaluation, run_id in check_evaluations(instance, checks).values()
        if run_id
    ]
