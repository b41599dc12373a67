"""The command line: one file per group of commands; `main.py` is the entry point.

What belongs here: options, output, and the processes that commands start. What does not: the work,
which jobs and assets do.
"""
