"""The query side: searching the live collection."""
