"""Stable identifiers: the shards of documents, the ids of chunks, and digests of content.

The results are stored in the lake and in Milvus, so each function depends on its arguments alone
and gives the same result on every machine and Python version.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b

DIGEST_BYTES = 16


def digest(*parts: str | bytes) -> str:
    """Return 32 hex characters that identify the sequence of parts.

    Each part is preceded by its length, so that ("ab", "c") and ("a", "bc") differ.
    """
    framed = []
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode()
        framed += [len(data).to_bytes(8, "big"), data]
    return blake2b(b"".join(framed), digest_size=DIGEST_BYTES).hexdigest()


def shard_keys(count: int, begun_with: int | None = None) -> list[str]:
    """Return the partition keys of the shards in order: `s000`, `s001` and so on.

    Args:
        count: Their number.
        begun_with: The number before it was doubled for the first time, which decides on the width
            of all keys: none changes when there are more.
    """
    width = max(3, len(str((begun_with or count) - 1)))
    return [f"s{number:0{width}d}" for number in range(count)]


def shard_number(document_id: str, count: int) -> int:
    """Return the number of a document's shard, from 0.

    With twice as many shards, the documents of shard n are in n and n + count, and nowhere else.
    """
    number = int.from_bytes(blake2b(document_id.encode(), digest_size=8).digest(), "big")
    return number % count


def shard_of(document_id: str, keys: Sequence[str]) -> str:
    """Return the shard that a document belongs to, whichever lane processes it."""
    return keys[shard_number(document_id, len(keys))]


def by_shard(
    document_ids: Iterable[str], keys: Sequence[str], about: Callable[[str], str] = str
) -> dict[str, frozenset[str]]:
    """Return shard → those of the ids that belong to it, sorted by shard.

    Args:
        document_ids: The ids.
        keys: All shards, in order.
        about: Returns the document that an id is about, which decides on the shard.
    """
    found: dict[str, set[str]] = {}
    for document_id in document_ids:
        found.setdefault(shard_of(about(document_id), keys), set()).add(document_id)
    return {shard: frozenset(found[shard]) for shard in sorted(found)}


def text_digest(text: str) -> str:
    """Return the digest under which a text's vector is stored and reused."""
    return blake2b(text.encode(), digest_size=DIGEST_BYTES).hexdigest()


def chunk_ids(document_id: str, texts: Iterable[str]) -> list[str]:
    """Return the ids of a document's chunks, in the order of `texts` (design I11).

    An id is a digest of the document's id, the text and its occurrence: n for the n-th chunk with
    the same text in the document. It does not depend on the chunk's position, so an edit elsewhere
    in the document does not change it.
    """
    seen: Counter[str] = Counter()
    ids = []
    for text in texts:
        ids.append(digest(document_id, text, str(seen[text])))
        seen[text] += 1
    return ids
