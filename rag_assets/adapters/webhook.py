"""Posts JSON to a webhook, with a few tries in a short time."""

from typing import Any

import httpx2
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from rag_assets.core.errors import AlertError, AlertUnavailableError

TRIES = 3
TIMEOUT = 5.0  # seconds a try; all of it must end well before a sensor's tick does
TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


def post(url: str, body: dict[str, Any]) -> None:
    """Post a body.

    Raises:
        AlertUnavailableError: Nobody answers, or says to come later.
        AlertError: It was refused. The address is not in the message: whoever knows it can post.
    """
    retrying = Retrying(
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(multiplier=0.5, max=2),
        retry=retry_if_exception(_is_transient),
        reraise=True,
    )
    try:
        retrying(_post, url, body)
    except httpx2.HTTPStatusError as error:
        kind = AlertUnavailableError if _is_transient(error) else AlertError
        raise kind(f"The webhook answered {error.response.status_code}.") from None
    except httpx2.TransportError as error:
        name = type(error).__name__
        raise AlertUnavailableError(f"The webhook cannot be reached: {name}.") from None
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise AlertError(f"RAG_ASSETS_ALERT_WEBHOOK_URL: {type(error).__name__}.") from None


def _post(url: str, body: dict[str, Any]) -> None:
    httpx2.post(url, json=body, timeout=TIMEOUT).raise_for_status()


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in TRY_AGAIN
    return isinstance(error, httpx2.TransportError)
