"""Dagster definitions, in the places where Dagster's documentation puts them.

What belongs here: everything with a Dagster decorator, thin enough to read as a table of contents.
What does not: the work (`pipeline/`, `models/`) and access to the instance (`instance/`).
"""
