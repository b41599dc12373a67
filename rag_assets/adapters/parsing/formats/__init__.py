"""The formats of documents: one module for each family, from bytes to Markdown."""
