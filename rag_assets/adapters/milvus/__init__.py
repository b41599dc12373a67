"""Milvus: collections, rows, searches, aliases, bulk imports and errors."""
