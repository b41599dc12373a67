"""Asset checks: problems that need attention, with the evidence. They change nothing.

What belongs here: turning a finding into a check's result. What does not: how it is found
(`pipeline/`, `models/`, `core/`).
"""

import dagster as dg

from rag_assets.defs.checks import documents, gate, index, listing, live, metadata

ALL = dg.load_asset_checks_from_modules([listing, documents, metadata, index, gate, live])
