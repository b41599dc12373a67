"""A real S3 protocol server on loopback: moto's, as a process of its own."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import s3fs
from botocore.session import get_session

from rag_assets_tests.support.milvus_servers import free_ports

START_SECONDS = 60
BUCKETS = {"moto": "bucket", "seaweedfs": "seaweed_bucket"}
"""S3 server → the fixture that is an empty bucket on it."""
SERVE = """
import threading
from moto.s3.responses import S3Response
from moto.server import main

lock, put = threading.Lock(), S3Response.put_object

def one_at_a_time(self):  # moto looks at If-Match and writes later; S3 does both in one step
    with lock:
        return put(self)

S3Response.put_object = one_at_a_time
main()
"""


@dataclass(frozen=True)
class Bucket:
    """An empty bucket and how to reach it."""

    name: str
    endpoint: str
    options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        options = {"endpoint_url": self.endpoint, "key": "test", "secret": "test"}
        object.__setattr__(self, "options", options)

    @property
    def url(self) -> str:
        return f"s3://{self.name}"

    def filesystem(self) -> s3fs.S3FileSystem:
        return s3fs.S3FileSystem(**self.options)

    def put(self, key: str, content: bytes) -> None:
        self.filesystem().call_s3("put_object", Bucket=self.name, Key=key, Body=content)

    def delete(self, key: str) -> None:
        self.filesystem().call_s3("delete_object", Bucket=self.name, Key=key)


@dataclass(frozen=True)
class Queue:
    """An SQS queue with a bucket's event notifications, on the same server.

    Attributes:
        url: Its URL.
        options: Arguments of botocore's client.
        client: Such a client.
    """

    url: str
    options: dict[str, str]
    client: Any


@contextmanager
def notifications(bucket: Bucket) -> Iterator[Queue]:
    """Have a bucket notify a queue of its own of every change."""
    options = {
        "endpoint_url": bucket.endpoint,
        "region_name": "us-east-1",
        "aws_access_key_id": "test",
        "aws_secret_access_key": "test",
    }
    client = get_session().create_client("sqs", **options)
    url = client.create_queue(QueueName=bucket.name)["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    configuration = {
        "QueueArn": arn["Attributes"]["QueueArn"],
        "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
    }
    bucket.filesystem().call_s3(
        "put_bucket_notification_configuration",
        Bucket=bucket.name,
        NotificationConfiguration={"QueueConfigurations": [configuration]},
    )
    yield Queue(url, options, client)
    client.close()


@contextmanager
def s3_server() -> Iterator[str]:
    """Run the server; yield its endpoint."""
    [port] = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _await_answer(process, endpoint)
        yield endpoint
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


def new_bucket(endpoint: str) -> Bucket:
    created = Bucket(f"bucket-{uuid4().hex}", endpoint)
    created.filesystem().mkdir(created.name)
    return created


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    return new_bucket(s3_endpoint)


def _await_answer(process: subprocess.Popen[bytes], endpoint: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            httpx2.get(endpoint, verify=False, trust_env=False)
        except httpx2.TransportError:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail("moto's server did not start")
            time.sleep(0.1)
        else:
            return
