"""The work on shards, without Dagster: listing, parsing, chunking, embedding, sync."""
