"""A queue of a bucket's event notifications: Amazon SQS, or a server with its protocol."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from rag_assets.core.errors import SourceError, SourceUnavailableError

MESSAGES_A_REQUEST = 10  # SQS's limit
MESSAGES_A_DRAIN = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was received; `receipt` deletes it."""

    body: str
    receipt: str


class EventQueue:
    """One queue. What was received and not deleted comes again after its visibility timeout."""

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    @classmethod
    def open(cls, url: str, options: dict[str, Any]) -> Self:
        """Open the queue at a URL; nothing is asked of it yet.

        Args:
            url: The queue's URL.
            options: Arguments of botocore's client, for instance a region_name.

        Raises:
            SourceError: The arguments do not fit.
        """
        try:
            return cls(get_session().create_client("sqs", **options), url)
        except (BotoCoreError, TypeError, ValueError) as error:
            raise SourceError(f"Cannot open the queue {url}: {error}") from error

    def drain(self) -> Iterator[list[Message]]:
        """Yield batches until the queue is empty or a bound is reached.

        Raises:
            SourceUnavailableError: The queue cannot be reached.
            SourceError: It refuses.
        """
        for _ in range(MESSAGES_A_DRAIN // MESSAGES_A_REQUEST):
            with self._errors_named():
                answer = self._client.receive_message(
                    QueueUrl=self._url, MaxNumberOfMessages=MESSAGES_A_REQUEST, WaitTimeSeconds=0
                )
            batch = [Message(m["Body"], m["ReceiptHandle"]) for m in answer.get("Messages", ())]
            if not batch:
                return
            yield batch

    def delete(self, messages: list[Message]) -> None:
        """Delete messages, after what they say has been taken care of."""
        for start in range(0, len(messages), MESSAGES_A_REQUEST):
            part = messages[start : start + MESSAGES_A_REQUEST]
            entries = [{"Id": str(i), "ReceiptHandle": m.receipt} for i, m in enumerate(part)]
            with self._errors_named():
                self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise SourceError(f"The queue {self._url} refuses: {error}") from error
        except BotoCoreError as error:
            raise SourceUnavailableError(
                f"The queue {self._url} cannot be reached: {error}"
            ) from error
