"""The platform's rules as pure functions and data: no Dagster, no I/O.

What belongs here: every decision that can be made from values alone. What does not: reading those
values (`adapters/`, `instance/`) and acting on the decision (`pipeline/`, `models/`, `defs/`).
"""
