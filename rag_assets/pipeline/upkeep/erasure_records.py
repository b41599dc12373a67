"""Records of erasures in the lake: the documents to be erased, and certificates.

Ids of documents to be erased are kept here and not in the configuration of a run, which Dagster
stores for good. They are deleted once the certificate is there.

What belongs here: reading and writing both. What does not: erasing (`erasure.py`).
"""

from collections.abc import Callable, Set

import polars as pl

from rag_assets.adapters.lake.lake import Lake, Meta, PartitionKey
from rag_assets.core.erasure import Certificate
from rag_assets.core.names import Asset
from rag_assets.core.tables import Schema

REQUESTED = PartitionKey(Asset.ERASURES, "requested")
IDS: Schema = {"document_id": pl.String()}
CERTIFICATES: Schema = {"digest": pl.String(), "certificate": pl.String()}


def requested(lake: Lake) -> frozenset[str]:
    """Return the documents to be erased."""
    return frozenset(lake.read(REQUESTED, IDS).table["document_id"])


def request(lake: Lake, document_ids: Set[str]) -> None:
    """Have documents erased by the next run of the job; until then, the request is kept."""
    _change(lake, lambda ids: ids | document_ids)


def settle(lake: Lake, document_ids: Set[str]) -> None:
    """Delete the request to erase documents."""
    _change(lake, lambda ids: ids - document_ids)


def _change(lake: Lake, change: Callable[[frozenset[str]], Set[str]]) -> None:
    def attempt() -> None:
        actual = lake.read(REQUESTED, IDS)
        before = frozenset(actual.table["document_id"])
        if (after := change(before)) != before:
            table = pl.DataFrame({"document_id": sorted(after)}, schema=IDS)
            lake.commit(REQUESTED, table, Meta("", ""), actual.token)

    lake.update(attempt)


def keep(lake: Lake, certificate: Certificate) -> None:
    """Keep a certificate, as an object that is named after its digest."""
    key = PartitionKey(Asset.ERASURES, certificate.digest)
    row = {"digest": certificate.digest, "certificate": certificate.text}
    meta = Meta(certificate.digest, "")
    lake.update(
        lambda: lake.commit(key, pl.DataFrame([row], schema=CERTIFICATES), meta, lake.token(key))
    )
