"""Outlook message files (.msg): the smallest container that holds given properties."""

import struct
from collections.abc import Mapping

_SECTOR = 512
_STREAM, _MIN_STREAM = 2, 4096
_END, _FREE, _TABLE = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD
Folder = Mapping[str, "bytes | Folder"]


def text_property(number: str, text: str) -> dict[str, bytes]:
    """A property that is a string."""
    return {f"__substg1.0_{number}001F": text.encode("utf-16-le")}


def msg_bytes(properties: Folder) -> bytes:
    """An OLE container of these streams, padded to 4,096 bytes, and folders."""
    entries: list[list[object]] = []  # name, kind, left, right, child, content
    _add(entries, "Root Entry", 5, properties)
    data, table = b"", [_TABLE]
    directory = b""
    count = -(-len(entries) * 128 // _SECTOR)
    table += [*range(2, count + 1), _END]
    for name, kind, right, child, stream in entries:
        assert isinstance(name, str)
        assert isinstance(stream, bytes)
        content = stream
        start = _END
        if kind == _STREAM:  # a shorter one would be in sectors of another kind
            content = content.ljust(_MIN_STREAM, b"\n" if name.endswith("0102") else b"\0")
            start = len(table)
            sectors = -(-len(content) // _SECTOR)
            table += [*range(start + 1, start + sectors), _END]
            data += content.ljust(sectors * _SECTOR, b"\0")
        encoded = (name + "\0").encode("utf-16-le")
        directory += struct.pack(
            "<64sHBBIII36xIQ",
            encoded,
            len(encoded),
            kind,
            1,
            _FREE,
            right,
            child,
            start,
            len(content),
        )
    assert len(table) <= 128, "one sector of table is enough for tests"
    header = struct.pack(
        "<8s16xHHHHH6xIIIIIIIII", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", 0x3E, 3, 0xFFFE, 9, 6,
        0, 1, 1, 0, 4096, _END, 0, _END, 0,
    )  # fmt: skip
    header += struct.pack("<109I", 0, *[_FREE] * 108)
    fat = struct.pack("<128I", *table, *[_FREE] * (128 - len(table)))
    padded = directory.ljust(count * _SECTOR, b"\0")
    return header + fat + padded + data


def _add(entries: list[list[object]], name: str, kind: int, content: "bytes | Folder") -> int:
    """Add an entry and what it contains; siblings are a list, each right of the one before."""
    index = len(entries)
    is_stream = isinstance(content, bytes)
    entry: list[object] = [name, kind, _FREE, _FREE, content if is_stream else b""]
    entries.append(entry)
    previous = entry
    at = 3
    for inner_name, inner in () if isinstance(content, bytes) else sorted(content.items()):
        previous[at] = _add(entries, inner_name, 2 if isinstance(inner, bytes) else 1, inner)
        previous = entries[int(str(previous[at]))]
        at = 2
    return index
