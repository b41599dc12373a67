"""Signs of life: what the UI's freshness looks at.

Dagster's freshness policies ask when an asset was last materialised. Ours are materialised when
something changed, and a bucket in which nothing changes is not stale. So the sensors report that
they looked, from time to time: `source_files` as long as the source can be listed, `collection` as
long as every shard is in step with a source that is. If a sensor stops, or its ticks fail, or
shards stay stale, the reports cease and the assets turn yellow, then red (docs/adr/0005).
"""

import time
from collections.abc import Mapping

import dagster as dg

from rag_assets.settings import Settings

SIGNS = 3  # within the time after which the UI warns


def last_sign(instance: dg.DagsterInstance, asset: str) -> float:
    """Return when an asset was last materialised, in seconds since the epoch; 0 if never."""
    event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    return event.timestamp if event else 0.0


def confirmed(
    instance: dg.DagsterInstance,
    settings: Settings,
    asset: str,
    said: str,
    figures: Mapping[str, float],
) -> list[dg.AssetMaterialization]:
    """Return a sign of life of an asset, unless it gave one not long ago.

    It is a materialisation of no partition: nothing of any partition has changed.

    Args:
        instance: Knows the last one.
        settings: Say how often.
        asset: Its name.
        said: What its sensor found, for people.
        figures: Further numbers by name.
    """
    warn, _ = settings.fresh_within
    if time.time() - last_sign(instance, asset) < warn.total_seconds() / SIGNS:
        return []
    metadata = {f"rag_assets/{name}": value for name, value in figures.items()}
    return [
        dg.AssetMaterialization(asset, description=f"A sign of life. {said}", metadata=metadata)
    ]
