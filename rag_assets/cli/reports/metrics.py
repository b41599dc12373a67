"""`rag-assets metrics`: the exporter of ingestion's metrics for Prometheus.

What belongs here: options and output. What does not: collecting (`instance/reports/metrics.py`),
and what the metrics are (`core/reports/metrics.py`).
"""

import logging
import sys

import click

from rag_assets.cli import services
from rag_assets.settings import load_settings

PORT = 9105


@click.command()
@click.option("--host", default=services.HOST, show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0: any that is free.",
)
@click.option("--once", is_flag=True, help="Print the metrics once instead, and exit.")
def metrics(host: str, port: int, *, once: bool) -> None:
    """Serve the metrics of ingestion to Prometheus.

    They are collected every RAG_ASSETS_METRICS_SECONDS from the lake, Milvus and the Dagster
    instance (of DAGSTER_HOME; by default, of `rag-assets dev`), however often they are asked for.
    While that fails, `rag_assets_up` is 0, the others are missing, and the log says why. With
    --once, the exit code is then 1.
    """
    logging.basicConfig(format="%(message)s")
    logging.getLogger("rag_assets").setLevel(logging.INFO)
    settings = load_settings()
    services.use_instance(settings)
    from prometheus_client import generate_latest  # noqa: PLC0415

    from rag_assets.cli.ingestion import open_exporter  # noqa: PLC0415 - imports Dagster
    from rag_assets.instance.reports.metrics import serving  # noqa: PLC0415

    with open_exporter(settings) as exporter:
        if once:
            exporter.refresh()
            click.echo(generate_latest(exporter.registry()).decode(), nl=False)
            sys.exit(0 if exporter.up else 1)
        with serving(exporter, host, port) as bound:
            click.echo(f"Ready: http://{host}:{bound}/metrics  (Ctrl-C stops it)")
            services.wait_until_stopped([])
