"""Access to the Dagster instance: runs, events, partitions, launchers.

What belongs here: reading and changing the instance, and all use of Dagster's private API. What
does not: definitions (`defs/`), and rules that need no Dagster (`core/`).
"""
