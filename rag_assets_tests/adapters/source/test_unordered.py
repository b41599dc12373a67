"""Servers that do not list in the order of keys: nothing is lost, however a listing is cut."""

from rag_assets_tests.support.s3_server import Bucket


def test_seaweedfs_lists_folder_by_folder(seaweed_bucket: Bucket) -> None:
    keys = ["a/b", "a-b", "ab"]
    for key in keys:
        seaweed_bucket.put(key, b"")

    answer = seaweed_bucket.filesystem().call_s3("list_objects_v2", Bucket=seaweed_bucket.name)

    assert [item["Key"] for item in answer["Contents"]] == ["a/b", "a-b", "ab"]
    assert sorted(keys) == ["a-b", "a/b", "ab"]
