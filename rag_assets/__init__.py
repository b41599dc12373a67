"""A Dagster asset graph that keeps a Milvus search index true to a bucket of documents."""
