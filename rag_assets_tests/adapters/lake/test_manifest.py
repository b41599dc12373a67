"""A manifest that is lost or damaged is never written anew with settings that nobody knows of."""

from pathlib import Path

import polars as pl
import pytest

from rag_assets.adapters.lake.lake import Lake, Meta, PartitionKey
from rag_assets.adapters.objects.object_store import FolderStore, open_object_store
from rag_assets.core.errors import ConfigurationError, LakeCorruptionError, LakeUnavailableError
from rag_assets_tests.support.s3_proxy import HTML, Fault, S3Proxy
from rag_assets_tests.support.s3_server import Bucket

FACTS = {"source": "s3://documents", "shards": "3"}
OTHER = FACTS | {"source": "s3://others"}
KEY = PartitionKey("source_files", "s001")


def lake_of(folder: Path) -> Lake:
    return Lake(FolderStore(folder))


def bound(folder: Path) -> Lake:
    lake = lake_of(folder)
    lake.bind(**FACTS)
    return lake


@pytest.fixture(params=["deleted", "empty", "garbage", "a list"])
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder whose manifest has gone bad; the lake in it is yet to be filled."""
    bound(tmp_path)
    path = tmp_path / "manifest.json"
    if request.param == "deleted":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "garbage": b"\xff{", "a list": b"[]"}[request.param])
    return tmp_path


def test_a_lost_manifest_is_restored_from_what_the_partitions_record(damaged: Path) -> None:
    writer = lake_of(damaged)
    writer._facts = FACTS  # as of a lake that was bound before the manifest was lost
    writer.commit(KEY, pl.DataFrame({"a": [1]}), Meta("v", ""), None)

    bound(damaged)

    with pytest.raises(ConfigurationError, match="source = s3://documents"):
        lake_of(damaged).bind(**OTHER)


def test_without_its_manifest_a_lake_refuses_other_settings(damaged: Path) -> None:
    writer = lake_of(damaged)
    writer._facts = FACTS
    writer.commit(KEY, pl.DataFrame({"a": [1]}), Meta("v", ""), None)

    with pytest.raises(ConfigurationError, match="source = s3://documents"):
        lake_of(damaged).bind(**OTHER)


def test_where_nothing_records_the_settings_the_operator_is_told_what_to_write(
    damaged: Path,
) -> None:
    lake_of(damaged).commit(KEY, pl.DataFrame({"a": [1]}), Meta("v", ""), None)

    with pytest.raises(LakeCorruptionError, match=r"manifest\.json") as refused:
        lake_of(damaged).bind(**FACTS)

    restored = '{"shards": "3", "source": "s3://documents"}'
    assert f"write {restored} to {damaged.as_uri()}/manifest.json" in str(refused.value)
    (damaged / "manifest.json").write_text(restored)
    bound(damaged)


def test_a_new_lake_has_no_manifest_to_lose(tmp_path: Path) -> None:
    bound(tmp_path)

    assert (tmp_path / "manifest.json").exists()


def test_a_login_page_in_place_of_the_manifest_is_not_a_damaged_manifest(
    proxy: S3Proxy, faulty_bucket: Bucket
) -> None:

    lake = Lake(open_object_store(faulty_bucket.url, faulty_bucket.options))
    lake.bind(**FACTS)
    lake.commit(KEY, pl.DataFrame({"a": [1]}), Meta("v", ""), None)
    proxy.add(Fault(path="manifest", body=HTML, times=1))

    with pytest.raises(LakeUnavailableError):
        lake.bind(**OTHER)
    with pytest.raises(ConfigurationError, match="source = s3://documents"):
        lake.bind(**OTHER)
