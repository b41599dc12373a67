"""Asset checks: problems that need attention, with the evidence. They change nothing.

What belongs here: turning a finding into a check's result. What does not: how it is found
(`pipeline/`, `models/`, `core/`).
"""

from rag_assets.defs.checks import documents, gate, index

ALL = [
    documents.quarantine,
    documents.text,
    documents.chunk_bounds,
    documents.cut_off_by_model,
    index.rows_in_sync,
    index.vectors,
    index.orphans,
    index.retrieval,
    index.endpoint_parity,
    index.lag,
    gate.promotion_gate,
]
