"""Text: encodings, pictures in Markdown, and files of plain text."""
