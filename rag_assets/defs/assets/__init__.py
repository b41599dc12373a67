"""The assets, one file each, named after the asset.

What belongs here: an asset's decorator and the metadata of its materialisations. What does not: the
work (`pipeline/`, `models/`), and partitions and columns (`catalog.py`).
"""

from rag_assets.defs.assets.chunks import chunks
from rag_assets.defs.assets.collection import collection
from rag_assets.defs.assets.cost_report import cost_report
from rag_assets.defs.assets.embeddings import embeddings
from rag_assets.defs.assets.erasures import erasures
from rag_assets.defs.assets.ingestion_report import ingestion_report
from rag_assets.defs.assets.live_alias import live_alias
from rag_assets.defs.assets.parsed_documents import parsed_documents
from rag_assets.defs.assets.source_files import source_files

ALL = [
    source_files,
    parsed_documents,
    chunks,
    embeddings,
    collection,
    live_alias,
    ingestion_report,
    cost_report,
    erasures,
]
"""In the order of the flow."""
