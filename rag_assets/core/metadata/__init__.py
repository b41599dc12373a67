"""The metadata of documents: fields, where their values come from, permissions, and filters."""
