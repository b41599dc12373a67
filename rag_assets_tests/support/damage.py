"""Damage to objects of the lake, as disks, copies and crashes do it."""

from rag_assets.adapters.lake.lake import Lake

GARBAGE = b"PAR1" + bytes(range(256)) * 4 + (500).to_bytes(4, "little") + b"PAR1"
DAMAGES = ("half", "empty", "garbage", "text")


def damage(lake: Lake, path: str, kind: str) -> bytes:
    """Replace an object by a damaged one; return the bytes that are there now."""
    stored = lake._objects.get(path)
    sound = stored.data if stored else b""
    bad = {
        "half": sound[: len(sound) // 2],
        "empty": b"",
        "garbage": GARBAGE,
        "text": b"<html>not Parquet</html>",
        "damaged pages": _with_damaged_pages(sound),
    }[kind]
    lake._objects.put(path, bad, stored.token if stored else None)
    return bad


def _with_damaged_pages(sound: bytes) -> bytes:
    """Overwrite the first page's header: the footer is sound, so metadata can be read."""
    return sound[:4] + b"\xff" * 12 + sound[16:]
