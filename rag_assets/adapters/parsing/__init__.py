"""Parsing: documents to Markdown, in processes with limits, and the tokenizer."""
