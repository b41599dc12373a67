"""Heartbeats: the materialisations by which the UI evaluates freshness.

Dagster's freshness policies consider when an asset was last materialised. Our assets are
materialised when something changes, and a bucket in which nothing changes is not stale. So the
sensors report heartbeats: `source_files` while a source can be listed, the asset of each of several
sources while that one can be, and `collection` while, in addition, every shard is in sync. If a
sensor stops, its ticks fail, or shards stay stale, the heartbeats cease and the assets turn yellow,
then red (docs/adr/0005).
"""

import time
from collections.abc import Mapping, Sequence

import dagster as dg

from rag_assets.core.scheduling.clocks import age
from rag_assets.instance import event_log
from rag_assets.settings import Settings

HEARTBEATS = 3  # per period after which the UI warns


def last_heartbeat(instance: dg.DagsterInstance, asset: str | Sequence[str]) -> float:
    """Return when an asset was last materialised, in seconds since the epoch; 0 if never."""
    event = event_log.latest(instance, asset)
    return event.timestamp if event else 0.0


def is_alive(instance: dg.DagsterInstance, settings: Settings, asset: str | Sequence[str]) -> bool:
    """Whether an asset's last heartbeat is recent enough that the UI does not warn."""
    warn, _ = settings.fresh_within
    since = age(last_heartbeat(instance, asset), time.time())
    return since is not None and since < warn.total_seconds()


def heartbeats(
    instance: dg.DagsterInstance,
    settings: Settings,
    asset: str | Sequence[str],
    message: str,
    metrics: Mapping[str, float],
) -> list[dg.AssetMaterialization]:
    """Return an asset's heartbeat if one is due, else nothing.

    It is a materialisation without a partition, because no partition has changed. It records the
    message of the sensor's tick, and metrics by name.
    """
    warn, _ = settings.fresh_within
    since = age(last_heartbeat(instance, asset), time.time())
    if since is not None and since < warn.total_seconds() / HEARTBEATS:
        return []
    metadata = {f"rag_assets/{name}": value for name, value in metrics.items()}
    return [dg.AssetMaterialization(asset, description=f"Heartbeat. {message}", metadata=metadata)]
