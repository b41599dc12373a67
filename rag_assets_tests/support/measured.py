"""What the metrics are computed from: a report with something of everything in it."""

from collections.abc import Mapping
from datetime import UTC, datetime

from rag_assets.core.documents.outcomes import Outcomes
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.reports.metrics import Delays, Measured
from rag_assets.core.reports.report import (
    ModelStatus,
    Report,
    SensorState,
    SourceStatus,
    Stage,
    stage,
)
from rag_assets.core.reports.spending import Spending, Spent
from rag_assets.core.reports.totals import Totals
from rag_assets.core.scheduling.lanes import InFlight, Lane, StaleShard
from rag_assets.core.scheduling.retries import Wait
from rag_assets.core.sources.records import SourceState
from rag_assets.core.sources.removals import Doubt

AT = datetime(2026, 11, 30, 12, tzinfo=UTC)
EDITED = StaleShard(0, 2, 2, followed=7)
NEW = StaleShard(1, 500, 0, whole=True)


def a_stage(*stale: StaleShard, waits: Mapping[int, Wait] | None = None, running: int = 3) -> Stage:
    """Return a stage of four shards, the last of which is in a bulk run."""
    return stage(
        "documents",
        4,
        rows=dict.fromkeys(range(4), 1000),
        stale=stale,
        in_flight=(InFlight(Lane.BULK, range(running, 4)),),
        waits=waits or {},
        stream_changes=10,
    )


def measured(report: Report | None = None, totals: Totals | None = None) -> Measured:
    hr = SourceStatus(
        name="hr",
        url="s3://secret-bucket/hr",
        state=SourceState.PAUSED,
        documents=10,
        quarantined=1,
        outcomes={"parsed": 9, "crashed": 1},
        backlog={"stream": 2},
        listed_at=5.0,
        problem="The source hr is not declared any more.",
        doubt=Doubt(3, 0, 10, AT, "digest", "hr"),
    )
    live = ModelStatus("a-v1", "live", "sa", "x_a", rows=40, stage=a_stage(EDITED, NEW))
    made = Report(
        at=AT,
        source="s3://secret-bucket",
        shards=("s000", "s001", "s002", "s003"),
        listed=10,
        parsed=10,
        chunks=40,
        documents=a_stage(EDITED, NEW, StaleShard(3, 4, 4)),
        quarantine=Quarantine(),
        outcomes=Outcomes(),
        models=(live, ModelStatus("b-v1", "registered", "sb", "x_b"),
                ModelStatus("old-v1", "retired", "so", "x_o")),
        spending=Spending((Spent("a-v1", "bulk", 5, 50, 1.5, 0.5, reused=2),)),
        sensors=(SensorState("source_sensor", True, 99.0, ""), SensorState("off", False, None, "")),
        sources=(hr,),
    )  # fmt: skip
    report = report or made
    checks = {("live_alias", "live"): 1.0}
    return Measured(report, totals or Totals(), checks, Delays().update(report), 120.0)
