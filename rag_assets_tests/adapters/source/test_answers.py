"""Answers that are not S3's listing: an error with a sentence, never an empty source."""

import polars as pl
import pytest

from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.stores import open_store
from rag_assets.core.errors import SourceError
from rag_assets.core.tables import SOURCE_FILES
from rag_assets_tests.support.s3_proxy import HTML, Fault, S3Proxy
from rag_assets_tests.support.s3_server import Bucket

NOTHING = pl.DataFrame(schema=SOURCE_FILES)
LIST = "list-type"


def listed(bucket: Bucket) -> list[str]:
    store = open_store(f"{bucket.url}/docs", bucket.options)
    return Source(store, max_bytes=1000).listing(NOTHING).files["document_id"].to_list()


@pytest.fixture
def documents(faulty_bucket: Bucket) -> Bucket:
    for key in ("docs/a.md", "docs/b.md"):
        faulty_bucket.put(key, b"text")
    return faulty_bucket


@pytest.mark.parametrize(
    "body",
    [
        HTML,
        b"",
        b"<ListAllMyBucketsResult><Buckets/></ListAllMyBucketsResult>",
        b'<?xml version="1.0"?><ListBucketResult><Name>bucket</Name></ListBucketResult>',
    ],
    ids=["HTML", "nothing", "another root", "half a listing"],
)
def test_another_answer_than_a_listing_is_an_error(
    documents: Bucket, proxy: S3Proxy, body: bytes
) -> None:
    proxy.add(Fault(path=LIST, body=body))

    with pytest.raises(SourceError, match="not an S3 listing"):
        listed(documents)


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault",
    [
        Fault(path=LIST, cut=0.7),
        Fault(path=LIST, body=b'{"files": []}'),
        Fault(path=LIST, body=b"<html><br><p>Log in</html>"),
    ],
    ids=["truncated", "JSON", "HTML that is no XML"],
)
def test_an_answer_that_is_no_xml_is_an_error(
    documents: Bucket, proxy: S3Proxy, fault: Fault
) -> None:
    proxy.add(fault)

    with pytest.raises(SourceError, match="Cannot list s3://"):
        listed(documents)
    proxy.faults.clear()
    assert listed(documents) == ["a.md", "b.md"]


@pytest.mark.parametrize("token", ["", "<NextContinuationToken>again</NextContinuationToken>"])
def test_a_listing_that_does_not_go_on_is_an_error(
    documents: Bucket, proxy: S3Proxy, token: str
) -> None:
    page = f"<ListBucketResult><IsTruncated>true</IsTruncated>{token}</ListBucketResult>"
    proxy.add(Fault(path=LIST, body=page.encode()))

    with pytest.raises(SourceError, match="does not say how to continue"):
        listed(documents)


def test_a_document_whose_look_up_is_answered_by_a_page_is_not_gone(
    documents: Bucket, proxy: S3Proxy
) -> None:
    source = Source(open_store(f"{documents.url}/docs", documents.options), max_bytes=1000)
    proxy.add(Fault(path=LIST, body=HTML))

    with pytest.raises(SourceError, match="not an S3 listing"):
        source.look_up({"a.md"}, NOTHING)
