"""The stream: changes as they arrive, in one process, without Dagster.

What belongs here: the stream, its intakes and its steps. What does not: what is streamed at all
(`core/scheduling/stream.py`), and the work on a shard, which the steps share with runs.
"""
