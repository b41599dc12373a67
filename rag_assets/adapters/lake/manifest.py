"""The manifest: the settings that a lake depends on, and where its store has been probed.

What belongs here: deciding whether these settings may use this lake. What does not: partitions
(`lake.py`).
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rag_assets.adapters.objects.object_store import ObjectStore, StoredObject
from rag_assets.adapters.objects.probe import probe
from rag_assets.core.errors import ConfigurationError, LakeCorruptionError
from rag_assets.core.layout import Layout

logger = logging.getLogger(__name__)

Facts = Mapping[str, str]
Keeps = Callable[[str, str], bool]
"""Whether a lake keeps a fact, by its name and the recorded value."""

MANIFEST = "manifest.json"
PROBED = "probed"  # the addresses at which the store was probed: a lake may be moved to another
SHARDS = "shards"
BEGUN_WITH = "begun_with"  # number of shards before they were doubled; absent if they never were
UNSPLIT = "unsplit"  # number of shards before the doubling that is not finished; absent otherwise


def keeps_nothing(_: str, __: str) -> bool:
    """Keep no fact: each setting has to be as it was."""
    return False


def layout_of(facts: Facts) -> Layout | None:
    """Return the layout that facts name; None if they name none."""
    shards = facts.get(SHARDS)
    return Layout(int(shards), int(facts.get(BEGUN_WITH, shards))) if shards else None


def read_layout(objects: ObjectStore) -> Layout | None:
    """Return the layout of the lake at present; None if it has no manifest yet."""
    return layout_of(_facts(objects.get(MANIFEST)) or {})


def bind_once(
    objects: ObjectStore,
    facts: Facts,
    recorded: Callable[[], Collection[Facts] | None],
    keeps: Keeps = keeps_nothing,
) -> Facts:
    """Compare the facts with the manifest, and write it if it is missing or not probed yet.

    Args:
        objects: The lake's store.
        facts: The settings that the lake depends on.
        recorded: Returns the facts in the footers of the partitions, which stand in for a lost
            manifest; None if there are no partitions.
        keeps: Whether the lake keeps a fact with the value it has, whatever the setting is now.

    Returns:
        The facts of the lake: of the settings, with as many shards as there are by now.

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
        held = _recorded(objects, facts, written, lost=found is None)
    facts = _with_kept(facts, keeps, [held])
    probed = held.pop(PROBED, [])
    _refuse_other_values(held, facts)
    bound = {**facts, **held}
    if objects.address not in probed:
        probe(objects)
        _write(objects, bound | {PROBED: sorted({*probed, objects.address})}, found)
    return bound


def double(objects: ObjectStore) -> None:
    """Record twice as many shards; which partitions are not split yet, they record themselves.

    Raises:
        ConfigurationError: The doubling before is not finished, or there would be too many.
        CommitConflictError: Another process has written the manifest since.
    """
    found = objects.get(MANIFEST)
    held = _facts(found) or {}
    layout = layout_of(held)
    if layout is None or UNSPLIT in held:
        raise ConfigurationError(
            "The shards cannot be doubled: the lake is not in use yet, or the doubling before is"
            " not finished. Wait for the job double_shards, or run it again."
        )
    layout.require_room()
    doubled = {SHARDS: str(layout.doubled.shards), BEGUN_WITH: str(layout.begun_with)}
    _write(objects, held | doubled | {UNSPLIT: str(layout.shards)}, found)


def finish_doubling(objects: ObjectStore) -> None:
    """Record that all partitions have been split.

    Raises:
        CommitConflictError: Another process has written the manifest since.
    """
    found = objects.get(MANIFEST)
    held = _facts(found) or {}
    if held.pop(UNSPLIT, None):
        _write(objects, held, found)


def _write(objects: ObjectStore, held: Mapping[str, Any], found: StoredObject | None) -> None:
    data = json.dumps(dict(held), sort_keys=True).encode()
    objects.put(MANIFEST, data, found.token if found else None)


def _with_kept(facts: Facts, keeps: Keeps, held: Collection[Facts]) -> Facts:
    kept = {name: one[name] for one in held for name in facts if name in one}
    return {**facts, **{name: value for name, value in kept.items() if keeps(name, value)}}


def _facts(found: StoredObject | None) -> dict[str, Any] | None:
    """Return the content of the manifest; None if it is missing or damaged."""
    try:
        held = json.loads(found.data) if found else None
    except ValueError:
        return None
    return held if isinstance(held, dict) else None


def _refuse_other_values(held: Facts, facts: Facts) -> None:
    layout = layout_of(held)
    for name, value in held.items():
        given = facts.get(name)
        doubled = name == SHARDS and layout is not None and layout.accepts(int(given or 0))
        if given == value or doubled or name in (BEGUN_WITH, UNSPLIT):
            continue
        remedy = " The number of shards can only be doubled: `rag-assets shards double`."
        raise ConfigurationError(
            f"This lake was filled with {name} = {value}, but the setting is now {given}."
            " Documents would be lost or mixed up: use another lake and another alias, or restore"
            f" the setting.{remedy if name == SHARDS else ''}"
        )


def _recorded(
    objects: ObjectStore, facts: Facts, recorded: Collection[Facts] | None, *, lost: bool
) -> dict[str, Any]:
    """Return what partitions record in place of a manifest; nothing for a new lake.

    A lake that has partitions and no manifest is refused unless they were written with `facts`.
    """
    if recorded is None and lost:
        return {}
    if recorded:
        now = max(recorded, key=lambda held: int(held.get(SHARDS, 0)))
        grown = {name: now[name] for name in (SHARDS, BEGUN_WITH) if name in now}
        for held in recorded:
            _refuse_other_values({**held, **grown}, facts)
        logger.warning("%s/%s was lost or damaged; written anew", objects.address, MANIFEST)
        before = min(recorded, key=lambda held: int(held.get(SHARDS, 0))).get(SHARDS)
        return {**now, **({UNSPLIT: before} if before != now.get(SHARDS) else {})}
    restored = json.dumps(dict(facts), sort_keys=True)
    raise LakeCorruptionError(
        MANIFEST,
        f"{'it does not exist' if lost else 'it is not JSON'}, and no partition records the"
        " settings that the lake was filled with. If they are the settings of today, restore it:"
        f" write {restored} to {objects.address}/{MANIFEST}. Otherwise correct the settings first,"
        " or use another lake and another alias",
    )
