"""The work on shards: listing, parsing, chunking, embedding, sync.

What belongs here: what a run does with a shard, without Dagster. What does not: access to the
outside world (`adapters/`), and rules that need no I/O (`core/`).
"""
