"""The lifecycle of an embedding model, without Dagster: registry, gate, promotion."""
