"""Rules of documents and chunks: keys, outcomes, splitting, quality."""
