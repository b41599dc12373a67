"""Objects of a store, and commits by compare-and-swap: a folder or S3."""
