"""The source: buckets and folders of documents, and the queue of event notifications."""
