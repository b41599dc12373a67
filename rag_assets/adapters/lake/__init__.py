"""The lake: Parquet objects that are replaced by compare-and-swap."""
