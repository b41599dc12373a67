"""Jobs: the stages of ingestion, sources, maintenance, and the steps of a model's lifecycle.

What belongs here: jobs and their ops. What does not: when they run (`schedules.py`, `sensors/`).
"""

from typing import Any

from rag_assets.defs.jobs import ingestion, models, sources, upkeep

ALL: list[Any] = [
    ingestion.ingest_documents,
    ingestion.index_chunks,
    ingestion.retry_quarantined,
    sources.accept_doubted_removal,
    sources.add_source,
    sources.pause_source,
    sources.resume_source,
    sources.remove_source,
    upkeep.audit,
    upkeep.run_checks,
    upkeep.evaluate_live,
    upkeep.report,
    upkeep.compact,
    upkeep.erase_documents,
    models.register_model,
    models.preview_build,
    models.build_model,
    models.rebuild_model,
    models.cancel_build,
    models.evaluate_candidates,
    models.promote,
    models.rollback,
    models.restore_alias,
    models.retire_model,
]
"""All jobs but `stream` and `double_shards`, which are created with their resources."""
