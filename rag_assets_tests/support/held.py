"""What a collection in Milvus really holds, asked for past our own adapter."""

from typing import Any

from pymilvus import MilvusClient

from rag_assets.adapters.milvus.connection import GRPC_OPTIONS

Indexed = dict[str, list[str]]


FIELDS = ("chunk_id", "document_id", "shard", "text", "row_digest", "ordinal")


def milvus_client(uri: str, timeout: float | None = None) -> MilvusClient:
    """A client that is not ours, with a connection of its own.

    Clients that share a connection share what the first of them set, and pymilvus's own default
    is to ping so often that a server ends the connection.
    """
    return MilvusClient(uri, timeout=timeout, dedicated=True, grpc_options=GRPC_OPTIONS)


def held_rows(client: MilvusClient, collection: str, *more: str) -> list[dict[str, Any]]:
    """Return all rows of a collection: keys, texts and digests, and more fields if named."""
    return client.query(
        collection,
        filter='chunk_id != ""',
        output_fields=[*FIELDS, *more],
        limit=16_000,
        consistency_level="Strong",
    )


def held_texts(client: MilvusClient, collection: str) -> Indexed:
    """Return the texts of each document, in reading order."""
    found: Indexed = {}
    for row in sorted(held_rows(client, collection), key=lambda row: row["ordinal"]):
        found.setdefault(row["document_id"], []).append(row["text"])
    return found
