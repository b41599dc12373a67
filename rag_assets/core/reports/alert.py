"""Alerts: the bodies that are posted to a webhook when a run or a check fails.

A body has a `text`, which Slack, Mattermost, Google Chat and others display, and the same
information in separate fields for programs.
"""

from dataclasses import dataclass
from typing import Any

MAX_LENGTH = 500  # characters of an error or a description


@dataclass(frozen=True, slots=True)
class FailedRun:
    """A run that failed; its `tags` name source, model, lane and partitions."""

    run_id: str
    job: str
    error: str
    will_retry: bool
    tags: dict[str, str]


@dataclass(frozen=True, slots=True)
class FailedCheck:
    """A check that passed before, or was never evaluated, and now fails."""

    run_id: str
    asset: str
    check: str
    severity: str
    description: str


def of_run(failed: FailedRun, source: str, webserver_url: str) -> dict[str, Any]:
    """Return the body for a failed run."""
    error = shortened(failed.error)
    then = "It will be retried automatically." if failed.will_retry else "Manual action required."
    link = _link(webserver_url, f"runs/{failed.run_id}")
    text = f"rag-assets: {failed.job} failed. {error} {then} {source}"
    return {
        "text": f"{text} {link}".strip(),
        "kind": "run_failed",
        "job": failed.job,
        "run_id": failed.run_id,
        "error": error,
        "asked_again": failed.will_retry,
        "tags": failed.tags,
        "source": source,
        "link": link,
    }


def of_check(failed: FailedCheck, source: str, webserver_url: str) -> dict[str, Any]:
    """Return the body for a check that has started to fail."""
    message = shortened(failed.description)
    link = _link(webserver_url, f"assets/{failed.asset}?view=checks&checkDetail={failed.check}")
    text = (
        f"rag-assets: check {failed.check} of {failed.asset}: {failed.severity}. {message} {source}"
    )
    return {
        "text": f"{text} {link}".strip(),
        "kind": "check_failed",
        "asset": failed.asset,
        "check": failed.check,
        "severity": failed.severity,
        "description": message,
        "run_id": failed.run_id,
        "source": source,
        "link": link,
    }


def shortened(text: str) -> str:
    """Return the text on one line, cut to the maximum length."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_LENGTH else line[: MAX_LENGTH - 1] + "…"


def newly_failed(before: dict[str, bool], now: dict[str, bool]) -> list[str]:
    """Return the checks that fail now and did not before; True means passed."""
    return [name for name, passed in now.items() if not passed and before.get(name, True)]


def _link(webserver_url: str, path: str) -> str:
    return f"{webserver_url.rstrip('/')}/{path}" if webserver_url else ""
