"""The query side: searching the live collection. It needs neither Dagster nor the lake."""
