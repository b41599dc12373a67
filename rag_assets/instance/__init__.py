"""What reads or changes the Dagster instance: runs, events, partitions, launchers."""
