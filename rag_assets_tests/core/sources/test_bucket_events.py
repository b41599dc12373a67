"""Event notifications are hints: keys are understood, everything else is let go."""

import json
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.sources.bucket_events import changed_keys


def s3_record(key: str, bucket: str = "bucket") -> dict[str, Any]:
    s3 = {"bucket": {"name": bucket}, "object": {"key": key}}
    return {"eventName": "ObjectCreated:Put", "s3": s3}


def test_keys_of_s3_notifications_are_decoded() -> None:
    body = json.dumps({"Records": [s3_record("a+b%2Bc/%C3%BC.md"), s3_record("plain.md")]})

    assert changed_keys(body, "bucket") == {"a b+c/ü.md", "plain.md"}


def test_notifications_inside_sns_and_eventbridge_are_understood() -> None:
    sns = {"Type": "Notification", "Message": json.dumps({"Records": [s3_record("a%20b.md")]})}
    detail = {"bucket": {"name": "bucket"}, "object": {"key": "a+b.md"}}

    assert changed_keys(json.dumps(sns), "bucket") == {"a b.md"}
    assert changed_keys(json.dumps({"detail": detail}), "bucket") == {"a+b.md"}


def test_other_buckets_and_test_messages_name_nothing() -> None:
    other = json.dumps({"Records": [s3_record("a.md", bucket="other")]})

    assert changed_keys(other, "bucket") == set()
    assert changed_keys(json.dumps({"Event": "s3:TestEvent"}), "bucket") == set()


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "1", '{"Records": 3}', '{"Records": [{}]}', "[[[["]
)
def test_what_is_no_notification_gives_none(body: str) -> None:
    assert changed_keys(body, "bucket") is None


ANY_JSON = st.recursive(
    st.none() | st.text() | st.integers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(ANY_JSON)
def test_any_json_is_taken_without_an_error(value: Any) -> None:
    found = changed_keys(json.dumps(value), "bucket")

    assert found is None or isinstance(found, set)


@given(st.text(min_size=1).filter(lambda key: key.isprintable()))
def test_every_key_comes_back_as_it_was(key: str) -> None:
    body = json.dumps({"Records": [s3_record(quote_plus(key))]})

    assert changed_keys(body, "bucket") == {key}
