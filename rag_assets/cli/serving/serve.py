"""`rag-assets serve`: the search service.

What belongs here: the command, and the server that it runs. What does not: the service
(`serving/service/`).
"""

import logging
import sys
import threading
from contextlib import suppress
from functools import partial
from importlib import import_module

import click

from rag_assets.core.reports.explanation import Explanation
from rag_assets.settings import Settings, load_settings

SHUTDOWN_SECONDS = 30
"""Maximum time for requests in flight when the service is stopped."""
KEEP_ALIVE_SECONDS = 75
"""How long an idle connection is kept: longer than by clients and proxies, who would otherwise send
a request while it is being closed.
"""
EXPLAINING = "rag_assets.cli.serving.explaining"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on.")
@click.option(
    "--drain-seconds",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Time after SIGTERM to go on answering, not ready, until load balancers have noticed.",
)
def serve(host: str, port: int, drain_seconds: float) -> None:
    """Serve searches over HTTP, for applications, agents and people.

    A page to search with is at /, the description of the API at /openapi.json. Without
    authentication the service listens on loopback only; RAG_ASSETS_SERVE_TOKENS_FILE and
    RAG_ASSETS_SERVE_ISSUER set it up.
    """
    import uvicorn  # noqa: PLC0415 - slow to import

    from rag_assets.cli import services  # noqa: PLC0415
    from rag_assets.serving.service.access.authentication import Authentication  # noqa: PLC0415
    from rag_assets.serving.service.app import create_app  # noqa: PLC0415
    from rag_assets.serving.service.draining import DrainedServer, Draining  # noqa: PLC0415

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("rag_assets").setLevel(logging.INFO)
    settings = load_settings()
    Authentication.of(settings).check_host(host)
    services.require_free_port("The search service", host, port, "--port")
    services.use_instance(settings)
    # Importing Dagster takes some seconds, which the first explanation would have to wait for.
    threading.Thread(target=import_module, args=[EXPLAINING], daemon=True).start()
    app = Draining(create_app(settings, explain=partial(_explain, settings)))
    click.echo(f"Listening on http://{host}:{port}  (Ctrl-C stops)")
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,  # it has the whole URL; the service's own has not
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )
    server = DrainedServer(config, app, drain_seconds)
    with suppress(KeyboardInterrupt):  # uvicorn raises it once more when it has ended
        server.run()
    if not server.started:
        sys.exit(1)


def _explain(settings: Settings, document_id: str) -> Explanation:
    from rag_assets.cli.serving.explaining import explained  # noqa: PLC0415 - Dagster is slow

    return explained(settings, document_id)
