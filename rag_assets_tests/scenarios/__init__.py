"""The design's invariants, each held against real servers, processes and files."""
