"""Parsing of documents to Markdown, in child processes with limits, and the tokenizer."""
