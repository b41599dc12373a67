"""Stable names for things: shards, chunks, texts, and digests of what content is a function of.

Everything here is a pure function of its arguments and the same on every machine and Python,
because the results are stored in the lake and in Milvus.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b

DIGEST_BYTES = 16


def digest(*parts: str | bytes) -> str:
    """Return 32 hex characters that name the sequence of parts.

    Each part is preceded by its length, so that ("ab", "c") and ("a", "bc") differ.
    """
    framed = []
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        framed += [len(data).to_bytes(8, "big"), data]
    return blake2b(b"".join(framed), digest_size=DIGEST_BYTES).hexdigest()


def shard_keys(count: int) -> list[str]:
    """Return the shards' partition keys in order: `s000` … for up to 1,000 shards."""
    width = max(3, len(str(count - 1)))
    return [f"s{number:0{width}d}" for number in range(count)]


def shard_of(document_id: str, keys: Sequence[str]) -> str:
    """Return the one shard that a document lives in, whichever lane brings it."""
    number = int.from_bytes(blake2b(document_id.encode(), digest_size=8).digest(), "big")
    return keys[number % len(keys)]


def text_digest(text: str) -> str:
    """Return the name under which a text's vector is kept and reused."""
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def chunk_ids(document_id: str, texts: Iterable[str]) -> list[str]:
    """Return the ids of a document's chunks, in the order of `texts` (design I11).

    The id is a digest of document, text and occurrence: the n-th chunk with the same text in
    one document. A chunk's position is no part of it, so an edit elsewhere leaves it alone.
    """
    seen: Counter[str] = Counter()
    ids = []
    for text in texts:
        ids.append(digest(document_id, text, str(seen[text])))
        seen[text] += 1
    return ids
