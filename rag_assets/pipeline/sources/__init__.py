"""From the sources to the listings in the lake."""
