"""Pure logic: no Dagster, no I/O. What the platform decides is decided here."""
