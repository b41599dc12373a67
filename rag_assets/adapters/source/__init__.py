"""The source: buckets and folders, and the queue of their notifications."""
