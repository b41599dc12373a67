"""Posts JSON to a webhook, with a few attempts within a short time."""

from typing import Any

import httpx2
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

from rag_assets.core.errors import AlertError, AlertUnavailableError

ATTEMPTS = 3
TIMEOUT = 5.0  # seconds per attempt; all attempts must end well before a sensor tick times out
RETRYABLE = frozenset({408, 425, 429, 500, 502, 503, 504})


def post(url: str, body: dict[str, Any]) -> None:
    """Post a body as JSON.

    Raises:
        AlertUnavailableError: The webhook does not respond, or is temporarily unavailable.
        AlertError: The webhook rejected the request. Messages omit its address, which is a secret.
    """
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
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
        name = type(error).__name__
        raise AlertError(f"RAG_ASSETS_ALERT_WEBHOOK_URL is not usable: {name}.") from None


def _post(url: str, body: dict[str, Any]) -> None:
    httpx2.post(url, json=body, timeout=TIMEOUT).raise_for_status()


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in RETRYABLE
    return isinstance(error, httpx2.TransportError)
