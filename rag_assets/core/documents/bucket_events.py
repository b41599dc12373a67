"""What a bucket's event notifications say: which keys may have changed, and nothing more.

Formats, as they come out of a queue:

- S3's own: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
  (keys are URL-encoded like form data, `+` is a space),
- the same inside an SNS notification's `Message`,
- EventBridge's, with keys as they are:
  https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

import json
from typing import Any
from urllib.parse import unquote_plus


def changed_keys(body: str, bucket: str) -> set[str] | None:
    """Return the keys of a bucket that a message names; they may be there, changed, or gone.

    Returns:
        Keys; none for messages of other buckets and S3's test message. None for a message that
        cannot be understood: the next listing finds what it was about.
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
