"""Rerankers, in this process or on a server."""
