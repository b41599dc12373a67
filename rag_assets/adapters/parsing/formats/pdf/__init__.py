"""PDF: pages, forms, notes and embedded files."""
