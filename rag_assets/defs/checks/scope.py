"""The shards that a check evaluates: configuration that checks share."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from rag_assets.core.errors import ConfigurationError

MAX_ROWS = 50  # of a table of evidence


class Scope(dg.Config):
    """The shards that a check evaluates when it is run manually."""

    shards: list[str] = Field(
        default=[], description="Names of the shards, for instance s003. Empty: all shards."
    )


def selected_shards(scope: Scope, known: Sequence[str]) -> list[str]:
    """Return the shards to evaluate.

    Raises:
        ConfigurationError: There is no such shard.
    """
    if unknown := sorted(set(scope.shards) - set(known)):
        raise ConfigurationError(
            f"There is no shard {', '.join(unknown)}; the shards are {known[0]} to {known[-1]}."
        )
    return scope.shards or list(known)


def unread(problems: Sequence[str]) -> str:
    """Return what a check could not evaluate, as an addition to its description."""
    return "".join(f" Not evaluated: {problem}" for problem in problems[:MAX_ROWS])
