"""Work on what is there already: audit, compaction, doubling, erasure."""
