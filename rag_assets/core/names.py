"""The names of assets, jobs, ops, checks, sensors, run tags and partition dimensions.

What belongs here: the names by which Dagster, the lake and operators know these things, each
defined once and referred to everywhere else. What does not: settings, columns
(`core/tables.py`), and the values that a tag or partition may have.
"""

from typing import Final

LOCATION: Final = "rag_assets.definitions"
"""The code location, which Dagster names after the module in workspace.yaml."""


class Asset:
    """Assets, in the order of the flow; the partitioned ones are also folders of the lake."""

    SOURCE_FILES: Final = "source_files"
    PARSED_DOCUMENTS: Final = "parsed_documents"
    CHUNKS: Final = "chunks"
    EMBEDDINGS: Final = "embeddings"
    COLLECTION: Final = "collection"
    LIVE_ALIAS: Final = "live_alias"
    INGESTION_REPORT: Final = "ingestion_report"
    COST_REPORT: Final = "cost_report"
    ERASURES: Final = "erasures"


SOURCES: Final = "sources"


def source_asset(name: str) -> tuple[str, str]:
    """Return the key of the external asset that stands for a declared source."""
    return SOURCES, name


class Job:
    """Jobs; `core/scheduling/pods.py` lists those that need a GPU."""

    INGEST_DOCUMENTS: Final = "ingest_documents"
    INDEX_CHUNKS: Final = "index_chunks"
    RETRY_QUARANTINED: Final = "retry_quarantined"
    ACCEPT_REMOVAL: Final = "accept_removal"
    STREAM: Final = "stream"

    ADD_SOURCE: Final = "add_source"
    PAUSE_SOURCE: Final = "pause_source"
    RESUME_SOURCE: Final = "resume_source"
    REMOVE_SOURCE: Final = "remove_source"

    AUDIT: Final = "audit"
    RUN_CHECKS: Final = "run_checks"
    EVALUATE_LIVE: Final = "evaluate_live"
    COMPACT: Final = "compact"
    DOUBLE_SHARDS: Final = "double_shards"
    REPORT: Final = "report"
    ERASE_DOCUMENTS: Final = "erase_documents"

    REGISTER_MODEL: Final = "register_model"
    PREVIEW_BUILD: Final = "preview_build"
    BUILD_MODEL: Final = "build_model"
    REBUILD_MODEL: Final = "rebuild_model"
    CANCEL_BUILD: Final = "cancel_build"
    EVALUATE_CANDIDATES: Final = "evaluate_candidates"
    PROMOTE: Final = "promote"
    ROLLBACK: Final = "rollback"
    RESTORE_ALIAS: Final = "restore_alias"
    RETIRE_MODEL: Final = "retire_model"


class Op:
    """Ops that take configuration from a run request or the command line."""

    REGISTER: Final = "register"
    PREVIEW: Final = "preview"
    BUILD: Final = "build"
    REBUILD: Final = "rebuild"
    CANCEL: Final = "cancel"
    RETIRE: Final = "retire"
    RETRY: Final = "mark_quarantined"
    ACCEPT: Final = "accept"
    DOUBLE: Final = "double"
    STREAM: Final = "stream_changes"
    ADD_SOURCE: Final = "add"
    PAUSE_SOURCE: Final = "pause"
    RESUME_SOURCE: Final = "resume"
    REMOVE_SOURCE: Final = "remove"


class Check:
    """Asset checks."""

    SOURCES: Final = "sources"
    REMOVALS: Final = "removals"
    SHARDS_OUTGROWN: Final = "shards_outgrown"
    QUARANTINE: Final = "quarantine"
    TEXT: Final = "text"
    METADATA: Final = "metadata"
    CHUNK_BOUNDS: Final = "chunk_bounds"
    CUT_OFF_BY_MODEL: Final = "cut_off_by_model"
    ENDPOINT_PARITY: Final = "endpoint_parity"
    VECTORS: Final = "vectors"
    ROWS_IN_SYNC: Final = "rows_in_sync"
    PERMISSIONS: Final = "permissions"
    SCHEMA: Final = "schema"
    ORPHANS: Final = "orphans"
    LAG: Final = "lag"
    RETRIEVAL: Final = "retrieval"
    LIVE: Final = "live"
    GATE: Final = "gate"  # all rules of one promotion
    GATE_RULE: Final = "gate_"  # prefix of the checks on candidates; followed by the rule


class Sensor:
    """Sensors."""

    SOURCE: Final = "source_sensor"
    INDEX: Final = "index_sensor"
    ALERT_FAILED_RUNS: Final = "alert_failed_runs"
    ALERT_FAILED_CHECKS: Final = "alert_failed_checks"


class Tag:
    """Run tags; docs/architecture.md describes them.

    Those that only the platform reads have the prefix by which the UI hides a tag.
    """

    LANE: Final = "rag_assets/lane"
    SOURCE: Final = "rag_assets/source"
    MODEL: Final = "rag_assets/model"
    REASON: Final = "rag_assets/reason"  # why the run was requested, for display
    STANDING: Final = "rag_assets/standing"  # of a standing stream run: `ready`, then `due`
    ENDING: Final = "rag_assets/ending"  # of a failed run: how it ended, which decides on retries
    ERROR: Final = "rag_assets/error"  # of a failed run: the name of its error
    ALERTED: Final = "rag_assets/alerted"  # of a failed run: an alert has been posted
    WRITES: Final = ".dagster/rag_assets_writes"  # limited to one run at a time by dagster.yaml
    DESIRED: Final = ".dagster/rag_assets_desired"  # for each stale shard, a digest of its state
    CONFIGURED: Final = ".dagster/rag_assets_configured"  # the configuration when it was requested
    RANGE_START: Final = "dagster/asset_partition_range_start"
    RANGE_END: Final = "dagster/asset_partition_range_end"


FORMER_TAGS: Final = {
    Tag.DESIRED: ("rag_assets/desired", "rag_assets/wanted"),
    Tag.CONFIGURED: ("rag_assets/configured",),
}
"""What these tags were called when earlier runs were recorded, whose failures still count."""


class Partition:
    """Partition dimensions."""

    MODEL: Final = "embedding_model"
    SHARD: Final = "shard"
