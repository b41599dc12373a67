"""What is wrong with one object stays with it, and its last readable version stays in the index."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from gzip import compress
from pathlib import Path
from typing import Any

import pytest

from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.adapters.source.source import Source
from rag_assets.adapters.source.stores import open_store
from rag_assets.core.documents.chunking import ChunkLimits
from rag_assets.core.documents.unreadable import retry_metrics
from rag_assets.core.errors import RagAssetsError, SourceError
from rag_assets.core.scheduling.retries import RetryPolicy
from rag_assets.core.tables import PARSED_DOCUMENTS
from rag_assets.pipeline.documents.chunking import Chunker, chunk_shard
from rag_assets.pipeline.documents.document_parser import DocumentParser
from rag_assets.pipeline.documents.parsing import parse_shard, read_quarantined, retry_quarantined
from rag_assets.pipeline.sources.listing import list_source
from rag_assets.pipeline.staleness import stale_documents
from rag_assets_tests.support.s3_proxy import Fault, S3Proxy, faulty_bucket, proxy
from rag_assets_tests.support.s3_server import Bucket

__all__ = ["faulty_bucket", "proxy"]

SHARDS = ["s000"]


@dataclass
class Documents:
    """A bucket behind a proxy, and what is parsed and chunked of it, in one shard."""

    bucket: Bucket
    lake: Lake
    parser: DocumentParser

    def ingest(self) -> None:
        list_source(self.lake, self.parser.source, SHARDS, SHARDS)
        self.parse()

    def parse(self) -> None:
        parse_shard(self.lake, self.parser, "s000", 100)
        limits = ChunkLimits(characters=300, tokens=100)
        chunker = Chunker(limits, lambda texts: [1 for _ in texts], str, "c")
        chunk_shard(self.lake, chunker, "s000")

    def rows(self) -> dict[str, dict[str, Any]]:
        table = self.lake.read(PartitionKey("parsed_documents", "s000"), PARSED_DOCUMENTS).table
        return {row["document_id"]: row for row in table.iter_rows(named=True)}

    def texts(self) -> dict[str, str]:
        return {name: row["markdown"].strip() for name, row in self.rows().items()}

    def stale(self, after: timedelta = timedelta()) -> list[str]:
        names = ("source_files", "parsed_documents", "chunks")
        metas = {name: self.lake.metas(name, {}) for name in names}
        at = (datetime.now(UTC) + after).timestamp()
        stale = stale_documents(metas, SHARDS, self.parser.version, "c", at)
        return [shard.desired for shard in stale]

    def quarantined(self) -> dict[str, str]:
        rows, _, _ = read_quarantined(self.lake, SHARDS)
        return dict(rows.select("document_id", "error").iter_rows())


@pytest.fixture
def documents(faulty_bucket: Bucket, tmp_path: Path) -> Iterator[Documents]:
    with ParserPool(workers=1, timeout_seconds=30, memory_bytes=1_000_000_000) as pool:
        options = faulty_bucket.options | {"skip_instance_cache": True}
        source = Source(open_store(faulty_bucket.url, options), max_bytes=1000)
        lake = Lake(open_object_store(str(tmp_path / "lake")))
        yield Documents(
            faulty_bucket, lake, DocumentParser(source, pool, 1, "p", RetryPolicy(60, 600))
        )


def denied(proxy: S3Proxy, code: str = "AccessDenied", status: int = 403) -> Fault:
    return proxy.add(Fault(path="/b.md", method="GET", code=code, status=status))


@pytest.mark.slow  # a server in trouble is asked several times
@pytest.mark.parametrize(
    "fault",
    [
        Fault(code="AccessDenied", status=403),
        Fault(code="InvalidRequest", status=400),
        Fault(code="InvalidObjectState", status=403),
        Fault(code="KMS.DisabledException", status=400),
        Fault(code="SomethingNew", status=418),
        Fault(code="InternalError", status=500),
        Fault(truncate=0.5),
    ],
    ids=lambda fault: fault.code or "truncated",
)
def test_an_answer_about_one_object_stays_with_it(
    documents: Documents, proxy: S3Proxy, fault: Fault
) -> None:
    for name in ("a.md", "b.md", "c.md"):
        documents.bucket.put(name, name.encode())
    proxy.add(replace(fault, path=r"/b\.md", method="GET"))

    documents.ingest()

    assert documents.texts() == {"a.md": "a.md", "b.md": "", "c.md": "c.md"}
    assert list(documents.quarantined()) == ["b.md"]
    assert documents.rows()["b.md"]["outcome"] == "unreadable"


@pytest.mark.slow  # a server that is overloaded is asked several times
@pytest.mark.parametrize(
    ("code", "status"), [("NoSuchBucket", 404), ("InvalidAccessKeyId", 403), ("SlowDown", 503)]
)
def test_an_answer_about_the_bucket_ends_the_run(
    documents: Documents, proxy: S3Proxy, code: str, status: int
) -> None:
    documents.bucket.put("b.md", b"text")
    denied(proxy, code, status)

    with pytest.raises(RagAssetsError) as ended:
        documents.ingest()

    assert isinstance(ended.value, SourceError) or "credentials" in str(ended.value)


def test_the_last_readable_version_stays_until_the_document_is_readable_or_gone(
    documents: Documents, proxy: S3Proxy
) -> None:
    documents.bucket.put("a.md", b"one")
    documents.bucket.put("b.md", b"one")
    documents.ingest()
    documents.bucket.put("b.md", b"two")
    fault = denied(proxy)

    documents.ingest()

    assert documents.texts() == {"a.md": "one", "b.md": "one"}
    assert documents.rows()["b.md"]["outcome"] == "parsed"
    assert documents.quarantined()["b.md"].endswith("stays in the index.")
    assert documents.stale() == []
    assert documents.stale(after=timedelta(seconds=61))
    documents.parse()  # not due: it is not asked again
    assert fault.hits == 1

    fault.code, fault.times = "", 0
    retry_quarantined(documents.lake, "s000", "b.md")
    documents.parse()

    assert documents.texts() == {"a.md": "one", "b.md": "two"}
    assert documents.quarantined() == {}
    assert documents.stale(after=timedelta(days=9)) == []

    documents.bucket.put("b.md", b"three")
    denied(proxy)
    documents.ingest()
    documents.bucket.delete("b.md")
    documents.ingest()
    assert documents.texts() == {"a.md": "one"}


def test_it_is_asked_again_ever_more_rarely(documents: Documents, proxy: S3Proxy) -> None:
    documents.bucket.put("b.md", b"one")
    fault, delays = denied(proxy), []
    documents.ingest()
    for _ in range(3):
        key = PartitionKey("parsed_documents", "s000")
        stored = documents.lake.read(key, PARSED_DOCUMENTS)
        [row] = stored.table.rows(named=True)
        delay = row["retry_at"] - datetime.now(UTC)
        delays.append(round(delay.total_seconds(), -1))
        earlier = stored.table.with_columns(  # as if the delay had passed
            retry_at=stored.table["retry_at"] - delay,
            unreadable_since=stored.table["unreadable_since"] - delay,
        )
        assert stored.meta
        metrics = {**stored.meta.metrics, **retry_metrics(earlier)}
        meta = replace(stored.meta, metrics=metrics)
        documents.lake.commit(key, earlier, meta, stored.token)
        documents.parse()

    assert fault.hits == 4
    assert delays == [60, 60, 120]


def test_a_new_parser_takes_no_text_away(documents: Documents, proxy: S3Proxy) -> None:
    documents.bucket.put("b.md", b"one")
    documents.ingest()
    denied(proxy)
    documents.parser = replace(documents.parser, version="q")

    documents.ingest()

    assert documents.texts() == {"b.md": "one"}
    assert documents.stale() == []


def test_a_document_that_is_away_while_it_is_parsed_again_is_kept_until_it_is_not_listed(
    documents: Documents, proxy: S3Proxy
) -> None:
    documents.bucket.put("b.md", b"one")
    documents.ingest()
    denied(proxy, "NoSuchKey", 404)
    documents.parser = replace(documents.parser, version="q")

    documents.ingest()

    assert documents.texts() == {"b.md": "one"}
    assert documents.stale()


def test_a_content_encoding_is_undone_within_the_limit(documents: Documents) -> None:
    filesystem = documents.bucket.filesystem()
    for name, content in (
        ("a.md", compress(b"packed")),
        ("bomb.md", compress(b"x" * 1_000_000)[:900]),
        ("wrong.md", b"not packed"),
        ("damaged.md", compress(b"packed")[:-4]),
    ):
        filesystem.call_s3(
            "put_object",
            Bucket=documents.bucket.name,
            Key=name,
            Body=content,
            ContentEncoding="gzip",
        )

    documents.ingest()

    outcomes = {name: row["outcome"] for name, row in documents.rows().items()}
    assert documents.texts()["a.md"] == "packed"
    assert documents.texts()["wrong.md"] == "not packed"
    assert outcomes["bomb.md"] == "too_large"
    assert outcomes["damaged.md"] == "unreadable"
    assert documents.stale() == []
