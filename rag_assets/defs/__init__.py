"""Everything with a Dagster decorator, and nothing else: Dagster's docs name the same places."""
