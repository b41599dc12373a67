"""The manifest: the settings that a lake depends on, and where its store has been probed.

What belongs here: deciding whether these settings may use this lake. What does not: partitions
(`lake.py`).
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rag_assets.adapters.lake.object_store import ObjectStore, StoredObject
from rag_assets.adapters.lake.probe import probe
from rag_assets.core.errors import ConfigurationError, LakeCorruptionError

logger = logging.getLogger(__name__)

Facts = Mapping[str, str]

MANIFEST = "manifest.json"
PROBED = "probed"  # the addresses at which the store was probed: a lake may be moved to another


def bind_once(
    objects: ObjectStore,
    facts: Facts,
    recorded: Callable[[], Collection[Facts] | None],
    keeps: Collection[str] = (),
) -> Facts:
    """Compare the facts with the manifest, and write it if it is missing or not probed yet.

    Args:
        objects: The lake's store.
        facts: The settings that the lake depends on.
        recorded: Returns the facts in the footers of the partitions, which stand in for a lost
            manifest; None if there are no partitions.
        keeps: Names of the facts of which the lake keeps the first value, whatever it is now.

    Returns:
        The facts that the lake is filled with.

    Raises:
        ConfigurationError: The lake was filled with other values, or the store is unsuitable.
        LakeCorruptionError: The manifest is lost or damaged, and nothing can stand in for it.
        CommitConflictError: Another process has written the manifest since.
    """
    found = objects.get(MANIFEST)
    held = _facts(found)
    if found and held is None:  # a bad answer is not a bad object, so ask again
        found = objects.get(MANIFEST)
        held = _facts(found)
    if held is None:
        written = recorded()
        facts = _with_kept(facts, keeps, written or ())
        _refuse_unless_recorded(objects, facts, written, lost=found is None)
        held = {}
    facts = _with_kept(facts, keeps, [held])
    probed = held.pop(PROBED, [])
    _refuse_other_values(held, facts)
    if objects.address not in probed:
        probe(objects)
        manifest = dict(facts) | {PROBED: sorted({*probed, objects.address})}
        data = json.dumps(manifest, sort_keys=True).encode()
        objects.put(MANIFEST, data, found.token if found else None)
    return facts


def _with_kept(facts: Facts, keeps: Collection[str], held: Collection[Facts]) -> Facts:
    return {**facts, **{name: one[name] for one in held for name in keeps if name in one}}


def _facts(found: StoredObject | None) -> dict[str, Any] | None:
    """Return the content of the manifest; None if it is missing or damaged."""
    try:
        held = json.loads(found.data) if found else None
    except ValueError:
        return None
    return held if isinstance(held, dict) else None


def _refuse_other_values(held: Facts, facts: Facts) -> None:
    for name, value in held.items():
        if facts.get(name) != value:
            raise ConfigurationError(
                f"This lake was filled with {name} = {value}, but the setting is now"
                f" {facts.get(name)}. Documents would be lost or mixed up: use another lake and"
                " another alias, or restore the setting."
            )


def _refuse_unless_recorded(
    objects: ObjectStore, facts: Facts, recorded: Collection[Facts] | None, *, lost: bool
) -> None:
    """Refuse a lake that has partitions and no manifest, unless they were written with `facts`."""
    if recorded is None and lost:
        return  # a new lake
    for held in recorded or ():
        _refuse_other_values(held, facts)
    if recorded:
        logger.warning("%s/%s was lost or damaged; written anew", objects.address, MANIFEST)
        return
    restored = json.dumps(dict(facts), sort_keys=True)
    raise LakeCorruptionError(
        MANIFEST,
        f"{'it does not exist' if lost else 'it is not JSON'}, and no partition records the"
        " settings that the lake was filled with. If they are the settings of today, restore it:"
        f" write {restored} to {objects.address}/{MANIFEST}. Otherwise correct the settings first,"
        " or use another lake and another alias",
    )
