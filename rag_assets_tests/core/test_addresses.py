"""An address is taken literally: nothing of it is cut off, decoded twice or guessed."""

from pathlib import Path

import pytest

from rag_assets.core.addresses import Address, parse_address
from rag_assets.core.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "bucket", "path"),
    [
        ("s3://bucket", "bucket", ""),
        ("s3://bucket/", "bucket", ""),
        ("s3://bucket/team#1", "bucket", "team#1"),
        ("s3://bucket/#1", "bucket", "#1"),
        ("s3://bucket/50%20off", "bucket", "50%20off"),
        ("s3://bucket/what?versionId=1", "bucket", "what?versionId=1"),
        ("s3://bucket//a//b/", "bucket", "/a//b/"),
        ("S3://Bucket.name_1/a;b=c", "Bucket.name_1", "a;b=c"),
        ("s3a://bucket/a:b@c", "bucket", "a:b@c"),
    ],
)
def test_everything_after_the_bucket_is_the_prefix(url: str, bucket: str, path: str) -> None:
    assert parse_address(url) == Address("s3", bucket, path)


def test_a_prefix_ends_in_one_slash_and_is_otherwise_as_written() -> None:
    prefixes = [parse_address(f"s3://b{path}").prefix for path in ("", "/", "/a", "/a/", "//a//")]
    assert prefixes == ["", "", "a/", "a/", "/a//"]


@pytest.mark.parametrize(
    "path", ["/docs/C#", "/docs/50%20off", "what?", "a b", "C:\\x", "/a:b", "./s3:/x", "[x"]
)
def test_a_plain_path_is_taken_as_it_is(path: str) -> None:
    assert parse_address(path) == Address("file", "", path)


@pytest.mark.parametrize("path", ["/with space/C#", "/50%20off?", "/ü", "/100%", "/a;b"])
def test_a_file_url_names_the_path_that_it_was_made_of(path: str) -> None:
    assert parse_address(Path(path).as_uri()).path == path
    assert parse_address(Path(path).as_uri().replace("file://", "file://localhost")).path == path


def test_a_file_url_names_bytes_that_are_not_utf_8() -> None:
    assert parse_address("file:///latin-%E9").path == "/latin-\udce9"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://", "BUCKET/PREFIX"),
        ("s3:///x", "BUCKET/PREFIX"),
        ("s3://key:secret@bucket/x", "belong in the options"),
        ("s3://host:9000/bucket", "ports belong"),
        ("s3://bucket?x", "BUCKET/PREFIX"),
        ("s3://bucket#x", "BUCKET/PREFIX"),
        ("s3:/bucket", "write `s3://`"),
        ("file://docs/x", "three slashes"),
        ("file://", "three slashes"),
        ("file:///docs/C#", "%23"),
        ("file:///docs/what?", "%3F"),
        ("gs://bucket/team#1", "# or ?"),
        ("/a\0b", "NUL"),
    ],
)
def test_what_is_left_over_is_refused_without_showing_it(url: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as refused:
        parse_address(url)

    assert "secret@" not in str(refused.value)


def test_other_schemes_are_left_to_their_file_system() -> None:
    for url in ("memory://docs", "abfs://container@account/x", "simplecache::s3://b/x#1"):
        assert parse_address(url).path == url
