"""Measurements, one command for each question. Run from the checkout: `python -m bench.NAME`."""
