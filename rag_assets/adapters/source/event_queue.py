"""The queue of a bucket's event notifications: Amazon SQS, or a server with its API."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import get_session

from rag_assets.core.display import masked
from rag_assets.core.errors import SourceError, SourceUnavailableError

MESSAGES_PER_REQUEST = 10  # SQS's limit
MESSAGES_PER_DRAIN = 1000


@dataclass(frozen=True, slots=True)
class Message:
    """A received message; `receipt` is the handle to delete it with."""

    body: str
    receipt: str


class EventQueue:
    """A queue. A message that is not deleted is delivered again after its visibility timeout."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        """Open a queue, without a request yet; the options are arguments for botocore's client.

        Raises:
            SourceError: The arguments are invalid.
        """
        self._url = url
        try:
            self._client = get_session().create_client("sqs", **options)
        except (BotoCoreError, TypeError, ValueError) as error:
            message = f"Cannot open the queue {url}: {error}"
            raise SourceError(masked(message)) from None

    def drain(self) -> Iterator[list[Message]]:
        """Yield batches of messages until the queue is empty or a limit is reached.

        Raises:
            SourceUnavailableError: The queue cannot be reached.
            SourceError: The queue refused the request.
        """
        for _ in range(MESSAGES_PER_DRAIN // MESSAGES_PER_REQUEST):
            batch = self.receive(0)
            if not batch:
                return
            yield batch

    def receive(self, seconds: int) -> list[Message]:
        """Wait up to so many seconds for messages (0 to 20); return up to ten, maybe none.

        Raises:
            SourceUnavailableError: The queue cannot be reached.
            SourceError: The queue refused the request.
        """
        with self._translating_errors():
            response = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=MESSAGES_PER_REQUEST,
                WaitTimeSeconds=seconds,
            )
        return [Message(m["Body"], m["ReceiptHandle"]) for m in response.get("Messages", ())]

    def delete(self, messages: list[Message]) -> None:
        """Delete messages, once they have been processed."""
        for start in range(0, len(messages), MESSAGES_PER_REQUEST):
            part = messages[start : start + MESSAGES_PER_REQUEST]
            entries = [{"Id": str(i), "ReceiptHandle": m.receipt} for i, m in enumerate(part)]
            with self._translating_errors():
                self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            message = f"The queue {self._url} refused the request: {error}"
            raise SourceError(masked(message)) from None
        except BotoCoreError as error:
            message = f"The queue {self._url} cannot be reached: {error}"
            raise SourceUnavailableError(masked(message)) from None
