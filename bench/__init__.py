"""Measurements, one command for each question. Run from the checkout: `python -m bench.NAME`."""

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # as `rag-assets dev` and the image have it
