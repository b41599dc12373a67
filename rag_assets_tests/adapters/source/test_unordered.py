"""Servers that do not list in the order of keys: nothing is lost, however a listing is cut."""

from pathlib import Path

import polars as pl
import pytest

from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.stores import open_store
from rag_assets.core.tables import SOURCE_FILES
from rag_assets_tests.support.listing import Listings
from rag_assets_tests.support.s3_server import Bucket

NOTHING = pl.DataFrame(schema=SOURCE_FILES)


def test_seaweedfs_lists_folder_by_folder(seaweed_bucket: Bucket) -> None:
    keys = ["a/b", "a-b", "ab"]
    for key in keys:
        seaweed_bucket.put(key, b"")

    answer = seaweed_bucket.filesystem().call_s3("list_objects_v2", Bucket=seaweed_bucket.name)

    assert [item["Key"] for item in answer["Contents"]] == ["a/b", "a-b", "ab"]
    assert sorted(keys) == ["a-b", "a/b", "ab"]


@pytest.mark.parametrize("objects", [1, 3, 100])
def test_nothing_is_lost_on_a_server_that_lists_folder_by_folder(
    seaweed_bucket: Bucket, tmp_path: Path, objects: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In byte order, `a-b.md` and `a.md` come before the folder `a/`; here they follow it."""
    keys = ["a/1.md", "a/2.md", "a/b/3.md", "a-b.md", "a.md", "ab/4.md", "b.md", "ä/5.md"]
    for key in keys:
        seaweed_bucket.put(f"docs/{key}", key.encode())
    monkeypatch.setattr("rag_assets.adapters.source.stores.PAGE", 2)
    store = open_store(f"{seaweed_bucket.url}/docs", seaweed_bucket.options)
    listings = Listings(tmp_path)
    listings.source = Source(store, max_bytes=1000)

    first = listings.pass_over(objects)
    assert listings.listed() == set(keys)
    seaweed_bucket.delete("docs/a-b.md")
    seaweed_bucket.put("docs/a/b-c.md", b"new")
    listings.pass_over(objects)

    assert listings.listed() == {*keys, "a/b-c.md"} - {"a-b.md"}
    assert not first[-1].ordered
    looked_up = listings.source.look_up({"a.md", "a", "a/b", "a/1.md"}, NOTHING)
    assert looked_up["document_id"].to_list() == ["a.md", "a/1.md"]
