"""`ShardErrors`: one shard that cannot be processed does not stop the other shards of its run.

What belongs here: which errors concern one shard, and how they are shown. What does not: raising
them (`pipeline/`).
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from rag_assets.core.errors import CommitConflictError, LakeError, UnavailableError

logger = logging.getLogger(__name__)

Key = str | dg.MultiPartitionKey


class ShardErrors:
    """The errors of single shards of one run."""

    def __init__(self, context: dg.AssetExecutionContext) -> None:
        self._context = context
        self._failed: dict[str, LakeError] = {}

    @contextmanager
    def of(self, partition: Key) -> Iterator[None]:
        """Keep an error about a partition in the lake; the shard stays stale and is retried."""
        try:
            yield
        except (CommitConflictError, UnavailableError):
            raise
        except LakeError as error:
            logger.exception("%s is left out: it stays stale and will be retried", partition)
            problem = {"rag_assets/problem": str(error)}
            self._context.add_asset_metadata(problem, partition_key=str(partition))
            self._failed[str(partition)] = error

    def raise_if_all_failed(self) -> None:
        """Fail the run if it did nothing: a run that did something for some shards succeeds.

        Raises:
            LakeError: Every shard of the run failed; this is the error of the last one.
        """
        if self._failed and len(self._failed) == len(self._context.partition_keys):
            raise list(self._failed.values())[-1]
