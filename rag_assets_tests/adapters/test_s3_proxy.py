"""The proxy that injects faults does what its faults say, and else nothing."""

import pytest

from rag_assets_tests.support.s3_proxy import CONDITIONS, HTML, Fault, S3Proxy
from rag_assets_tests.support.s3_server import Bucket


def test_without_a_fault_the_answers_are_the_servers(proxy: S3Proxy, faulty_bucket: Bucket) -> None:
    faulty_bucket.put("a b/ü.md", b"text" * 1000)
    files = faulty_bucket.filesystem()
    assert files.cat(f"{faulty_bucket.name}/a b/ü.md") == b"text" * 1000
    assert files.find(faulty_bucket.name) == [f"{faulty_bucket.name}/a b/ü.md"]
    assert f"PUT /{faulty_bucket.name}/a b/ü.md" in proxy.requests


def test_a_code_is_for_one_object_and_as_often_as_it_says(
    proxy: S3Proxy, faulty_bucket: Bucket
) -> None:
    faulty_bucket.put("good.md", b"good")
    faulty_bucket.put("bad.md", b"bad")
    fault = proxy.add(Fault("/bad.md", "GET", times=1, code="AccessDenied", status=403))
    files = faulty_bucket.filesystem()
    with pytest.raises(PermissionError):
        files.cat_file(f"{faulty_bucket.name}/bad.md")
    assert files.cat_file(f"{faulty_bucket.name}/bad.md") == b"bad"
    assert files.cat_file(f"{faulty_bucket.name}/good.md") == b"good"
    assert fault.hits == 1


def test_bodies_are_replaced_and_cut(proxy: S3Proxy, faulty_bucket: Bucket) -> None:
    faulty_bucket.put("a.md", b"0123456789")
    proxy.add(Fault("/a.md", "GET", times=1, body=HTML))
    proxy.add(Fault("/a.md", "GET", times=1, cut=0.5))
    files = faulty_bucket.filesystem()
    assert files.cat_file(f"{faulty_bucket.name}/a.md") == HTML
    assert files.cat_file(f"{faulty_bucket.name}/a.md") == b"01234"
    assert files.cat_file(f"{faulty_bucket.name}/a.md") == b"0123456789"


def test_a_dropped_condition_lets_every_writer_win(proxy: S3Proxy, faulty_bucket: Bucket) -> None:
    proxy.add(Fault(method="PUT", drop=CONDITIONS))
    for content in (b"one", b"two"):
        faulty_bucket.filesystem().call_s3(
            "put_object", Bucket=faulty_bucket.name, Key="a", Body=content, IfNoneMatch="*"
        )
    assert faulty_bucket.filesystem().cat_file(f"{faulty_bucket.name}/a") == b"two"
