"""Metadata and tags of S3 objects, which a listing brings along if fields come from them."""

import json
from typing import Any

import polars as pl
import pytest

from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.stores import S3Source, open_store
from rag_assets.core.errors import DocumentUnreadableError
from rag_assets.core.metadata.rules import Kind
from rag_assets.core.tables import SOURCE_FILES
from rag_assets_tests.support.s3_server import BUCKETS, Bucket

NOTHING = pl.DataFrame(schema=SOURCE_FILES)
BOTH = frozenset({Kind.OBJECT, Kind.TAG})


@pytest.fixture(params=["moto", "seaweedfs"])
def documents(request: pytest.FixtureRequest) -> Bucket:
    found: Bucket = request.getfixturevalue(BUCKETS[request.param])
    put(found, "a.md", {"team": "legal"}, {"Secret": "no"})
    put(found, "b.md", {}, {})
    return found


def put(bucket: Bucket, key: str, metadata: dict[str, str], tags: dict[str, str]) -> None:
    where = {"Bucket": bucket.name, "Key": f"docs/{key}"}
    fs = bucket.filesystem()
    fs.call_s3("put_object", Body=b"# Text\n", Metadata=metadata, **where)
    if tags:
        tag(bucket, key, tags)


def tag(bucket: Bucket, key: str, tags: dict[str, str]) -> None:
    found = [{"Key": name, "Value": value} for name, value in tags.items()]
    bucket.filesystem().call_s3(
        "put_object_tagging",
        Bucket=bucket.name,
        Key=f"docs/{key}",
        Tagging={"TagSet": found},
    )


def source(bucket: Bucket, kinds: frozenset[Kind] = BOTH) -> Source:
    store = open_store(f"{bucket.url}/docs", bucket.options)
    return Source(store, max_bytes=1000, attributes=kinds)


def attributes(files: pl.DataFrame) -> dict[str, Any]:
    return {i: json.loads(a) for i, a in files.select("document_id", "attributes").iter_rows()}


def test_a_listing_brings_metadata_and_tags(documents: Bucket) -> None:
    found = attributes(source(documents).listing(NOTHING).files)

    assert found["a.md"] == {"object": {"team": "legal"}, "tag": {"Secret": "no"}}
    assert found["b.md"] == {"object": {}, "tag": {}}


def test_nothing_is_asked_for_if_no_field_comes_from_it(documents: Bucket) -> None:
    files = source(documents, frozenset({Kind.SIDECAR})).listing(NOTHING).files

    assert files["attributes"].null_count() == 2


def test_changed_tags_are_found_by_the_next_listing_and_by_a_look(documents: Bucket) -> None:
    before = source(documents).listing(NOTHING).files
    tag(documents, "a.md", {"Secret": "yes"})

    for files in (
        source(documents).listing(before).files,
        source(documents).look_up(["a.md"], before),
    ):
        assert attributes(files)["a.md"]["tag"] == {"Secret": "yes"}


def test_metadata_is_asked_for_again_only_if_the_object_has_changed(
    documents: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = source(documents).listing(NOTHING).files
    asked: list[tuple[str, Kind]] = []
    ask = S3Source.attributes

    def asking(store: S3Source, key: str, kind: Kind) -> dict[str, str]:
        asked.append((key, kind))
        return ask(store, key, kind)

    monkeypatch.setattr(S3Source, "attributes", asking)
    source(documents).listing(before)

    assert sorted(asked) == [("a.md", Kind.TAG), ("b.md", Kind.TAG)]


def test_attributes_that_cannot_be_read_are_told_and_asked_for_again(
    documents: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_: S3Source, key: str, kind: Kind) -> dict[str, str]:
        raise DocumentUnreadableError(f"The {kind} of {key} is locked.")

    with monkeypatch.context() as locked:
        locked.setattr(S3Source, "attributes", refused)
        before = source(documents).listing(NOTHING).files

    assert attributes(before)["a.md"]["object"] == "The object of a.md is locked."
    after = source(documents).listing(before).files
    assert attributes(after)["a.md"]["object"] == {"team": "legal"}
