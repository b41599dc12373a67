"""The names of assets, jobs, checks, ops and run tags, each written once.

What belongs here: a name by which Dagster, the lake or an operator knows something of ours. What
does not: settings, columns of tables (`core/tables.py`), and values that a name may have.
Everything else refers to these, so that a name that is changed or added is changed everywhere.
"""

from typing import Final


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


class Job:
    """Jobs; `core/scheduling/pods.py` says of each whether it needs a GPU."""

    INGEST_DOCUMENTS: Final = "ingest_documents"
    INDEX_CHUNKS: Final = "index_chunks"
    RETRY_QUARANTINED: Final = "retry_quarantined"

    AUDIT: Final = "audit"
    RUN_CHECKS: Final = "run_checks"
    EVALUATE_LIVE: Final = "evaluate_live"
    COMPACT: Final = "compact"
    REPORT: Final = "report"

    REGISTER_MODEL: Final = "register_model"
    PREVIEW_BUILD: Final = "preview_build"
    BUILD_MODEL: Final = "build_model"
    CANCEL_BUILD: Final = "cancel_build"
    EVALUATE_CANDIDATES: Final = "evaluate_candidates"
    PROMOTE: Final = "promote"
    ROLLBACK: Final = "rollback"
    RETIRE_MODEL: Final = "retire_model"


class Op:
    """Ops that take configuration, by which a run request or the command line names them."""

    REGISTER: Final = "register"
    BUILD: Final = "build"
    CANCEL: Final = "cancel"
    RETIRE: Final = "retire"


class Check:
    """Asset checks."""

    QUARANTINE: Final = "quarantine"
    TEXT: Final = "text"
    CHUNK_BOUNDS: Final = "chunk_bounds"
    CUT_OFF_BY_MODEL: Final = "cut_off_by_model"
    ENDPOINT_PARITY: Final = "endpoint_parity"
    VECTORS: Final = "vectors"
    ROWS_IN_SYNC: Final = "rows_in_sync"
    ORPHANS: Final = "orphans"
    LAG: Final = "lag"
    RETRIEVAL: Final = "retrieval"
    GATE: Final = "gate"  # of a promotion, as a whole
    GATE_RULE: Final = "gate_"  # of a candidate; the rule's name follows


class Sensor:
    """Sensors."""

    SOURCE: Final = "source_sensor"
    INDEX: Final = "index_sensor"
    ALERT_FAILED_RUNS: Final = "alert_failed_runs"
    ALERT_FAILED_CHECKS: Final = "alert_failed_checks"


class Tag:
    """Tags of runs; docs/architecture.md describes them."""

    LANE: Final = "rag_assets/lane"
    SOURCE: Final = "rag_assets/source"
    MODEL: Final = "rag_assets/model"
    WRITES: Final = "rag_assets/writes"  # what the run alone may write; dagster.yaml limits it
    DESIRED: Final = "rag_assets/desired"  # a digest of each stale shard's desired state
    REASON: Final = "rag_assets/reason"  # why a sensor requested it, for people
    CONFIGURED: Final = "rag_assets/configured"  # the configuration it was requested with
    ENDING: Final = "rag_assets/ending"  # of a failed run: whether and when to retry it
    ERROR: Final = "rag_assets/error"  # of a failed run: the name of the error
    ALERTED: Final = "rag_assets/alerted"  # of a failed run: an alert was posted
    RANGE_START: Final = "dagster/asset_partition_range_start"
    RANGE_END: Final = "dagster/asset_partition_range_end"


class Partition:
    """Partition dimensions."""

    MODEL: Final = "embedding_model"
    SHARD: Final = "shard"
