"""Bucket event notifications: the keys that they name, which may have changed.

Nothing else in them is used. Supported formats:

- S3: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
  (keys are URL-encoded like form data, `+` is a space),
- the same in the `Message` of an SNS notification,
- EventBridge, with keys that are not encoded:
  https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

import json
from typing import Any
from urllib.parse import unquote_plus


def changed_keys(body: str, bucket: str) -> set[str] | None:
    """Return the keys of a bucket that a message names, of objects that may also be gone.

    Returns:
        The keys; an empty set for messages about other buckets and for S3's test message. None if
        the message is in an unknown format; the next listing will find the change.
    """
    try:
        return _keys(json.loads(body), bucket)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _keys(message: Any, bucket: str) -> set[str]:
    if "Records" in message:
        found = [record["s3"] for record in message["Records"]]
        return {unquote_plus(s3["object"]["key"]) for s3 in found if s3["bucket"]["name"] == bucket}
    if "detail" in message:
        detail = message["detail"]
        return {detail["object"]["key"]} if detail["bucket"]["name"] == bucket else set()
    if message.get("Event") == "s3:TestEvent":
        return set()
    return _keys(json.loads(message["Message"]), bucket)
