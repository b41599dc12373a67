"""The lake: parquet objects changed by compare-and-swap."""
