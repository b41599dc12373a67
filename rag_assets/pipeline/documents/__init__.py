"""From listed documents to chunks."""
