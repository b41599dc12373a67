"""Settings of when work is started, and in which runs."""

from pydantic import Field, field_validator

from rag_assets.core.scheduling.bulk_window import parse_window
from rag_assets.settings.area import Area


class SensorSettings(Area):
    """Sensors and runs."""

    tick_seconds: int = Field(default=3, gt=0)
    """Minimum interval between two ticks of an ingestion sensor."""

    list_objects: int = Field(default=100_000, gt=0)
    """Maximum number of objects listed per tick; the next tick continues from there."""

    list_seconds: float = Field(default=20, gt=0)
    """Maximum time spent on listing per tick."""

    list_interval_seconds: float = Field(default=0, ge=0)
    """Minimum interval between the starts of two listings. After a listing that takes more than
    2 s, it is at least ten times that long.
    """

    stream_documents: int = Field(default=100, ge=0)
    """Maximum changed documents per tick to process as stream runs; a larger change set goes to
    bulk runs.
    """

    stream_chunks: int = Field(default=2_000, ge=0)
    """Maximum changed chunks per tick and model to process as stream runs; a larger change set goes
    to bulk runs.
    """

    stream_run: bool = True
    """Whether a standing run, the job `stream`, takes edits as they arrive. If false, the sensors
    start runs for them.
    """

    stream_idle_seconds: float = Field(default=600, ge=0)
    """How long the standing stream run stays without a change, with its models in memory; the next
    change starts another one. 0: it always stays.
    """

    stream_run_seconds: float = Field(default=21_600, gt=0)
    """Age at which a standing stream run is replaced by a successor."""

    stream_run_events: int = Field(default=20_000, gt=0)
    """Number of events in its log at which a standing stream run is replaced by a successor."""

    shards_per_run: int = Field(default=64, gt=0)
    """Maximum number of shards per bulk run or backfill run."""

    runs_per_lane: int = Field(default=4, gt=0)
    """Maximum number of queued and running runs per job and lane; further changes wait in the
    source.
    """

    bulk_window: str = ""
    """Hours in UTC in which the sensors may start bulk runs, for instance 22:00-06:00. Empty: at
    any time. Stream runs start at any time.
    """

    retry_initial_seconds: float = Field(default=20, gt=0)
    """Delay before the first retry of a failed run; doubles with each further failure."""

    retry_max_seconds: float = Field(default=900, gt=0)
    """Maximum delay before a retry."""

    reread_max_seconds: float = Field(default=3600, gt=0)
    """Maximum delay before a document that could not be read is read again. The first delay is
    RAG_ASSETS_RETRY_INITIAL_SECONDS; it then grows with the time that the problem has lasted.
    """

    @field_validator("bulk_window")
    @classmethod
    def _is_window(cls, value: str) -> str:
        parse_window(value)
        return value


class ScheduleSettings(Area):
    """Schedules."""

    audit_cron: str = "17 * * * *"
    """Schedule (cron, UTC) of the audit, which compares the rows in Milvus with the lake, and of
    the asset checks.
    """

    checks_cron: str = "47 3 * * *"
    """Schedule (cron, UTC) of the checks that embed texts: retrieval and endpoint_parity."""

    compact_cron: str = "23 2 * * 0"
    """Schedule (cron, UTC) of compaction and of the removal of orphans."""

    report_cron: str = "*/15 * * * *"
    """Schedule (cron, UTC) of the assets ingestion_report and cost_report."""
