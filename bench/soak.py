"""Does the index stay true to the bucket while everything fails? A long, seeded soak.

    python -m bench.soak --minutes 15 --seed 1 --s3 seaweedfs --milvus full

Runs the whole platform (webserver, daemon, run processes, Milvus, an S3 server), changes documents,
kills runs, Milvus and the daemon, and refuses embeddings; in the middle, a model is built, promoted
and rolled back. Then it lets things settle and compares bucket and index exactly, in every
collection. Exits with an error if they differ.
"""

import json
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from rag_assets_tests.scenarios.platform import running_platform
from rag_assets_tests.scenarios.soak import SETTINGS, Soak
from rag_assets_tests.support.milvus_servers import full_executable, full_server, lite_server
from rag_assets_tests.support.s3_server import s3_server
from rag_assets_tests.support.seaweedfs import seaweed_server


@click.command()
@click.option("--minutes", default=15.0, show_default=True)
@click.option("--seed", default=1, show_default=True)
@click.option("--s3", type=click.Choice(["moto", "seaweedfs"]), default="moto", show_default=True)
@click.option("--milvus", type=click.Choice(["lite", "full"]), default="lite", show_default=True)
def main(minutes: float, seed: int, s3: str, milvus: str) -> None:
    """Soak the platform and print what was done."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("platform", "s3"):
            (folder / name).mkdir()
        server = seaweed_server(folder / "s3") if s3 == "seaweedfs" else s3_server()
        engine = partial(full_server, executable=full_executable())
        platform = stack.enter_context(
            running_platform(
                folder / "platform",
                stack.enter_context(server),
                engine if milvus == "full" else lite_server,
                **SETTINGS,
            )
        )
        platform.register("second-v1")
        done = Soak(platform, seed).run(60 * minutes, settle_seconds=600)
        done["texts embedded"] = len(platform.embeddings.texts)
        done["runs"] = len(platform.instance.get_runs())
        servers = {"s3": s3, "milvus": milvus}
        click.echo(json.dumps({"seed": seed, "minutes": minutes, **servers, **done}, indent=1))


if __name__ == "__main__":
    main()
