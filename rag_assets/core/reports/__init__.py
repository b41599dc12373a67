"""What is reported to people: the ingestion report, spending, alerts and previews."""
