"""The two models of an upgrade, served by a process of their own.

    python -m bench.embeddings --kind rotated

Prints the address and serves until its standard input ends.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from rag_assets_tests.scenarios.upgrade import two_models
from rag_assets_tests.support.variants import variant


@contextmanager
def serving(kind: str) -> Iterator[str]:
    """Serve as long as the block lasts; yield the address."""
    command = [sys.executable, "-m", "bench.embeddings", "--kind", kind]
    root = Path(__file__).parents[1]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.communicate()


@click.command()
@click.option(
    "--kind", required=True, help="Of the new model, as in rag_assets_tests/support/variants.py."
)
def main(kind: str) -> None:
    """Serve until the standard input ends."""
    with two_models(variant(kind)) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
