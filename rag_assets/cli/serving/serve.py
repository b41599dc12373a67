"""`rag-assets serve`: the search service.

What belongs here: the command, and the server that it runs. What does not: the service
(`serving/service/`).
"""

import logging
from functools import partial

import click

from rag_assets.core.reports.explanation import Explanation
from rag_assets.settings import Settings, load_settings

SHUTDOWN_SECONDS = 30
"""Maximum time for requests in flight when the service is stopped."""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
def serve(host: str, port: int) -> None:
    """Serve searches over HTTP, for applications, agents and people.

    A page to search with is at /, the description of the API at /openapi.json. Without
    authentication the service listens on loopback only; RAG_ASSETS_SERVE_TOKENS_FILE and
    RAG_ASSETS_SERVE_ISSUER set it up.
    """
    import uvicorn  # noqa: PLC0415 - slow to import

    from rag_assets.cli import services  # noqa: PLC0415
    from rag_assets.serving.service.app import create_app  # noqa: PLC0415
    from rag_assets.serving.service.authentication import Authentication  # noqa: PLC0415

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("rag_assets").setLevel(logging.INFO)
    settings = load_settings()
    Authentication.of(settings).check_host(host)
    services.require_free_port("The search service", host, port, "--port")
    services.use_instance(settings)
    app = create_app(settings, explain=partial(_explain, settings))
    click.echo(f"Listening on http://{host}:{port}  (Ctrl-C stops)")
    uvicorn.run(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,  # it has the whole URL; the service's own has not
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def _explain(settings: Settings, document_id: str) -> Explanation:
    from rag_assets.cli.serving.explaining import explained  # noqa: PLC0415 - Dagster is slow

    return explained(settings, document_id)
