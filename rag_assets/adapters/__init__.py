"""All I/O: the source, the lake, parsers, embedding models, Milvus."""
