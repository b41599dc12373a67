"""The life of an embedding model, without Dagster: registry, gate, promotion."""
