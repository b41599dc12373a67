"""Commands of the query side."""
