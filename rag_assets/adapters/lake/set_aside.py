"""Setting a corrupt partition aside: its bytes are kept, and it reads as one that does not exist.

What belongs here: what takes the place of a corrupt partition. What does not: noticing that it is
corrupt (`encoding.py`), and rebuilding it, which its asset does.
"""

import logging
from contextlib import suppress

from rag_assets.adapters.lake.files.encoding import (
    REBUILT,
    damage,
    decode_footer,
    decode_head,
    encode_set_aside,
    remedy,
)
from rag_assets.adapters.lake.files.partition import Footer, asset_of
from rag_assets.adapters.lake.files.parts import Head
from rag_assets.adapters.lake.heads import Heads, or_error
from rag_assets.adapters.lake.manifest import Facts
from rag_assets.adapters.lake.part_store import PartStore
from rag_assets.adapters.objects.object_store import ObjectStore, content_token
from rag_assets.core.errors import CommitConflictError

logger = logging.getLogger(__name__)

CORRUPT = "corrupt"  # folder of the bytes of corrupt objects, kept as evidence


def set_aside(
    path: str, objects: ObjectStore, heads: Heads, parts: PartStore, facts: Facts
) -> bool:
    """Set a corrupt partition aside, so that it is rebuilt; return False if it cannot be.

    Corrupt bytes are kept below `corrupt/`. In its place is an object that reads as a partition
    that does not exist, and that goes on counting changes: otherwise a rebuilt partition could look
    like the state that another was derived from. If only parts are corrupt, the rows of the others
    can still be read, for the rebuild. Nothing happens if it is sound by now.
    """
    if asset_of(path) not in REBUILT:
        return False
    found = objects.get(path)
    if found is None:
        return True
    rest = None
    if error := damage(found.data, path):
        bad = {path: (str(error), found.data)}
    else:
        head = decode_head(found.data, path)
        bad = parts.damaged(head) if head else {}
        if not bad or head is None:
            return True
        sound = tuple(part for part in head.parts if part.path not in bad)
        rest = Head(sound, dropped=head.dropped, sweeps=head.sweeps)
    footer = or_error(lambda: decode_footer(found.data, path))
    if isinstance(footer, Footer) and footer.facts:  # if it is not split yet, its stand-in will be
        facts = footer.facts
    kept = [_kept(objects, bad_path, *why) for bad_path, why in bad.items()]
    changes = heads.recorded_changes(path, found.data) + 1
    stand_in = encode_set_aside(
        f"it has been set aside as {', '.join(kept)}; {remedy(path)}", changes, facts, rest
    )
    with suppress(CommitConflictError):  # another run has replaced it
        objects.put(path, stand_in, found.token)
    return True


def _kept(objects: ObjectStore, path: str, why: str, data: bytes) -> str:
    """Keep the bytes of a corrupt object; return where."""
    kept = f"{CORRUPT}/{path}.{content_token(data)}"
    objects.add(kept, data)
    logger.error("%s Its bytes are kept as %s.", why, kept)
    return kept
