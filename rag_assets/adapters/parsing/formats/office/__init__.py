"""Office documents: a module for each kind of document, and what they share."""
