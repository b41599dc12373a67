"""Heartbeats: what the UI's freshness is evaluated by.

Dagster's freshness policies ask when an asset was last materialised. Ours are materialised when
something changed, and a bucket in which nothing changes is not stale. So the sensors report that
they looked, from time to time: `source_files` as long as the source can be listed, `collection` as
long as every shard is in sync with a source that is. If a sensor stops, or its ticks fail, or
shards stay stale, the reports cease and the assets turn yellow, then red (docs/adr/0005).
"""

import time
from collections.abc import Mapping

import dagster as dg

from rag_assets.instance import event_log
from rag_assets.settings import Settings

HEARTBEATS = 3  # within the time after which the UI warns


def last_heartbeat(instance: dg.DagsterInstance, asset: str) -> float:
    """Return when an asset was last materialised, in seconds since the epoch; 0 if never."""
    newest = event_log.latest(instance, asset)
    return newest.timestamp if newest else 0.0


def is_alive(instance: dg.DagsterInstance, settings: Settings, asset: str) -> bool:
    """Whether an asset was materialised within the time after which the UI warns."""
    warn, _ = settings.fresh_within
    return time.time() - last_heartbeat(instance, asset) < warn.total_seconds()


def heartbeats(
    instance: dg.DagsterInstance,
    settings: Settings,
    asset: str,
    message: str,
    metrics: Mapping[str, float],
) -> list[dg.AssetMaterialization]:
    """Return a heartbeat of an asset, or nothing if there was one recently.

    It is a materialisation of no partition: nothing of any partition has changed.

    Args:
        instance: Knows the last one.
        settings: Say how often.
        asset: Its name.
        message: What its sensor found, for people.
        metrics: Further numbers by name.
    """
    warn, _ = settings.fresh_within
    if time.time() - last_heartbeat(instance, asset) < warn.total_seconds() / HEARTBEATS:
        return []
    metadata = {f"rag_assets/{name}": value for name, value in metrics.items()}
    return [dg.AssetMaterialization(asset, description=f"Heartbeat. {message}", metadata=metadata)]
