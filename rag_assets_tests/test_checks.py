"""What the asset checks say, on a platform that is in order and on one that is not."""

import time

import dagster as dg
import pytest
from pymilvus import MilvusClient

from rag_assets.adapters.milvus import GRPC_OPTIONS
from rag_assets.settings import load_settings
from rag_assets_tests.s3_server import Bucket
from rag_assets_tests.scenarios.platform import awaited
from rag_assets_tests.ticking import Ticking, instance, put, settle

__all__ = ["instance"]


@pytest.fixture
def settled(bucket: Bucket, instance: dg.DagsterInstance) -> Ticking:
    """Three documents, indexed."""
    put(bucket, "a.md", "b.md", "c.md")
    source = Ticking(instance, "source_sensor")
    settle(source, Ticking(instance, "index_sensor"))
    return source


def evaluate(ticking: Ticking) -> dict[str, dg.AssetCheckEvaluation]:
    """Run all checks as their job does."""
    job = ticking.repository.get_job("run_checks")
    result = job.execute_in_process(instance=ticking.instance)
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def test_on_a_platform_that_is_in_order_every_check_passes(settled: Ticking) -> None:
    found = evaluate(settled)

    assert set(found) == {"quarantine", "rows_in_step", "lag"}
    assert all(check.passed for check in found.values())


def test_quarantined_documents_are_counted_with_their_age_and_reasons(
    bucket: Bucket, settled: Ticking, instance: dg.DagsterInstance
) -> None:
    bucket.put("docs/broken.pdf", b"%PDF-1.7\nno document")
    settle(settled, Ticking(instance, "index_sensor"))

    check = evaluate(settled)["quarantine"]

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "1 documents are quarantined" in str(check.description)
    assert 0 <= float(str(check.metadata["rag_assets/oldest_hours"].value)) < 1
    [row] = check.metadata["rag_assets/documents"].records
    assert row.data["document_id"] == "broken.pdf"


def test_rows_that_milvus_lost_fail_a_check_with_the_shard_as_evidence(settled: Ticking) -> None:
    settings = load_settings()
    name = f"{settings.alias}__wordllama_256_v1"
    client = MilvusClient(settings.milvus_uri, grpc_options=GRPC_OPTIONS)
    lost = client.query(name, 'document_id == "a.md"', ["chunk_id"], consistency_level="Strong")
    client.delete(name, ids=[row["chunk_id"] for row in lost])

    check = evaluate(settled)["rows_in_step"]

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    [row] = check.metadata["rag_assets/shards"].records
    assert row.data["missing"] == str(len(lost))
    client.close()


def test_changes_that_took_too_long_fail_the_lag_check(
    bucket: Bucket,
    settled: Ticking,
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_step = time.time()
    awaited(lambda: time.time() > in_step + 1, "the next second: S3 tells times in seconds")
    bucket.put("docs/a.md", b"# Edited\n\nSome time ago.\n")
    settle(settled, Ticking(instance, "index_sensor"))
    assert evaluate(settled)["lag"].passed
    monkeypatch.setenv("RAG_ASSETS_FRESHNESS_SECONDS", "0.000001")

    check = evaluate(Ticking(instance, "source_sensor"))["lag"]

    assert not check.passed
    assert check.metadata["rag_assets/changes"].value == 1
