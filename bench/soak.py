"""Does the index stay true to the bucket while everything fails? A long, seeded soak.

    python -m bench.soak --minutes 15 --seed 1

Runs the whole platform (webserver, daemon, run processes, Milvus Lite, moto's S3 server), changes
documents, kills runs, Milvus and the daemon, and refuses embeddings. Then it lets things settle
and compares bucket and index exactly, in two collections. Exits with an error if they differ.
"""

import json
import tempfile
from pathlib import Path

import click

from rag_assets_tests.scenarios.platform import running_platform
from rag_assets_tests.scenarios.soak import Soak
from rag_assets_tests.support.s3_server import s3_server


@click.command()
@click.option("--minutes", default=15.0, show_default=True)
@click.option("--seed", default=1, show_default=True)
def main(minutes: float, seed: int) -> None:
    """Soak the platform and print what was done."""
    with (
        tempfile.TemporaryDirectory() as folder,
        s3_server() as endpoint,
        running_platform(Path(folder), endpoint) as platform,
    ):
        platform.register("second-v1")
        done = Soak(platform, seed).run(60 * minutes, settle_seconds=600)
        done["texts embedded"] = len(platform.embeddings.texts)
        done["runs"] = len(platform.instance.get_runs())
        click.echo(json.dumps({"seed": seed, "minutes": minutes, **done}, indent=1))


if __name__ == "__main__":
    main()
