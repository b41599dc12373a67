"""The lifecycle of an embedding model: registry, gate, promotion, retirement.

What belongs here: the steps of the lifecycle, without Dagster. What does not: vectors and rows
(`pipeline/`), and the rules for each step (`core/models/`).
"""
