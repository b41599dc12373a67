"""Access to the outside world: the source, the lake, parsers, embedding models and Milvus.

What belongs here: I/O and foreign libraries, behind interfaces that raise this package's own
errors. What does not: deciding what to do (`core/`), and doing it in order (`pipeline/`).
"""
