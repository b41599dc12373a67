"""Milvus: collections, rows, searches, aliases, and what its errors mean."""
