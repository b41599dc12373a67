"""Rules of embedding models: specs, lifecycle, gate, retrieval scores, vectors."""
