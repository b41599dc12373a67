"""Rules for documents and chunks: keys, outcomes, chunking, quality."""
