"""What is reported of the platform: its state, its metrics, one document, its costs."""
