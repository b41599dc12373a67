"""`erasures`: the certificates of documents that were erased."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import polars as pl

from rag_assets.core.erasure import Certificate, Traces, document_digest, places
from rag_assets.core.errors import ErasureError
from rag_assets.core.names import Asset
from rag_assets.defs.metadata import table
from rag_assets.defs.resources import IndexResource, PrivacyResource, SourcesResource
from rag_assets.instance.erasure import Storage
from rag_assets.instance.event_log import CERTIFICATE
from rag_assets.pipeline.upkeep.erasure import Erasure
from rag_assets.pipeline.upkeep.erasure_records import keep, requested, settle

ROUNDS = 3  # of erasing and looking again, while other runs write
ELSEWHERE = (
    "Copies outside the platform: of the source, in backups, in replicas, in snapshots of volumes,"
    " and earlier versions of objects in a bucket that keeps them."
)
VERSIONS = (
    "Data versions of before, in Dagster's history: with those of afterwards, they can confirm a"
    " guess of the exact document, but tell nothing of it."
)


@dg.asset(
    name=Asset.ERASURES,
    group_name="operations",
    description="Documents that are gone from the source and were erased everywhere else, at the"
    " request of `rag-assets erase`. Each materialisation is a certificate: what was looked at"
    " afterwards, and that nothing of them was found. It names them by digest.",
)
def erasures(
    context: dg.AssetExecutionContext,
    sources: SourcesResource,
    index: IndexResource,
    privacy: PrivacyResource,
) -> dg.MaterializeResult[None]:
    """Erase the documents that were requested, and certify it."""
    with index.open() as opened:
        ids = requested(opened.lake)
        if not ids:
            context.log.info("No document is requested to be erased.")
            return dg.MaterializeResult(metadata={"rag_assets/documents": 0})
        with _naming_none(ids):
            erasure = Erasure(opened, sources.open(opened), ids)
            refused = erasure.refusals()
            for document_id, why in refused.items():
                context.log.error("Document %s %s.", document_digest(document_id), why)
            settle(opened.lake, refused.keys())
            erasure = replace(erasure, document_ids=ids - refused.keys())
            certificate = _certified(context, erasure, privacy)
            keep(opened.lake, certificate)
            settle(opened.lake, ids)
    return dg.MaterializeResult(metadata=certificate_metadata(certificate))


def _certified(
    context: dg.AssetExecutionContext, erasure: Erasure, privacy: PrivacyResource
) -> Certificate:
    """Erase documents until nothing is found of them; return the certificate.

    Raises:
        ErasureError: There are none, or something is still found because other runs write it.
    """
    if not erasure.document_ids:
        raise ErasureError("None of the documents can be erased; the log says why.")
    traces = Traces.of(erasure.document_ids)
    storage = Storage(context.instance, traces, privacy.log_folders())
    before = [*erasure.look(), *storage.look()]
    for _ in range(ROUNDS):
        unknown = erasure.run()
        storage.erase()
        certificate = Certificate(
            documents=tuple(sorted(map(document_digest, erasure.document_ids))),
            places=places(before, [*erasure.look(), *storage.look()]),
            issued_at=datetime.now(UTC).isoformat(timespec="seconds"),
            concurrent_runs=storage.concurrent_runs(context.run.run_id),
            not_shown=(*unknown, *storage.not_shown, ELSEWHERE, VERSIONS),
        )
        if certificate.complete:
            return certificate
    left = ", ".join(f"{place.place} ({place.left})" for place in certificate.places if place.left)
    raise ErasureError(
        f"Something of the documents is still found in {left}, probably because other runs are"
        " writing it: repeat the job a little later."
    )


def certificate_metadata(certificate: Certificate) -> dict[str, Any]:
    """Return a certificate as metadata: itself, its digest, and its places as a table."""
    return {
        "rag_assets/documents": len(certificate.documents),
        "rag_assets/digest": certificate.digest,
        "rag_assets/places": table(pl.DataFrame(certificate.places)),
        "rag_assets/found": sum(place.found for place in certificate.places),
        "rag_assets/left": sum(place.left for place in certificate.places),
        "rag_assets/concurrent_runs": certificate.concurrent_runs,
        CERTIFICATE: dg.MetadataValue.json(json.loads(certificate.text)),
    }


@contextmanager
def _naming_none(ids: frozenset[str]) -> Iterator[None]:
    """Replace an error, which may name a document, by one that does not: it is stored for good.

    Raises:
        ErasureError: In place of any error.
    """
    try:
        yield
    except ErasureError:
        raise
    except Exception as error:
        without = Traces.of(ids).without(str(error))
        raise ErasureError(f"{type(error).__name__}: {without}") from None
