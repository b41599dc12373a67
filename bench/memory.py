"""Does the memory of the daemon and its code server stay flat over many ticks?

    python -m bench.memory --minutes 60

Runs the whole platform with a few hundred documents, changes one now and then, and samples the
resident memory of both processes and the number of ticks. Prints the medians of each tenth of the
time, and the growth between the second and the last tenth: the first one fills caches.
"""

import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import click
import psutil

from rag_assets_tests.scenarios.platform import Platform, running_platform
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.s3_server import s3_server

DOCUMENTS = 300
SAMPLE_SECONDS = 2.0
CHANGE_SECONDS = 30.0
SERVICES = ("daemon", "code")
PARTS = 10


def resident(platform: Platform, service: str) -> int:
    """Return the bytes of a service without the processes that it starts for runs."""
    service_itself = psutil.Process(platform.pid(service))
    total = service_itself.memory_info().rss
    for child in service_itself.children():
        with suppress(psutil.NoSuchProcess):  # a run that has just ended
            if "grpc" in child.cmdline():
                total += child.memory_info().rss
    return int(total)


def sampled(platform: Platform, seconds: float) -> list[dict[str, int]]:
    """Sample while ticks go on and a document changes now and then."""
    samples: list[dict[str, int]] = []
    began = time.monotonic()
    changed = 0.0
    while time.monotonic() < began + seconds:
        if time.monotonic() > changed + CHANGE_SECONDS:
            platform.put("0.md", document(f"changed {len(samples)}", sections=2))
            changed = time.monotonic()
        samples.append({name: resident(platform, name) for name in SERVICES})
        time.sleep(SAMPLE_SECONDS)
    return samples


@click.command()
@click.option("--minutes", default=60.0, show_default=True)
def main(minutes: float) -> None:
    """Sample the memory and print its medians in MB, oldest first."""
    with (
        tempfile.TemporaryDirectory() as folder,
        s3_server() as endpoint,
        running_platform(Path(folder), endpoint) as platform,
    ):
        for number in range(DOCUMENTS):
            platform.put(f"{number}.md", document(f"d{number}", sections=2))
        platform.await_live()
        platform.await_convergence(600)
        samples = sampled(platform, 60 * minutes)
        size = max(1, len(samples) // PARTS)
        medians = {
            name: [
                round(median(one[name] for one in samples[start : start + size]) / 1e6, 1)
                for start in range(0, size * PARTS, size)
            ]
            for name in SERVICES
        }
        growth = {name: round(parts[-1] - parts[1], 1) for name, parts in medians.items()}
        ticks = len(platform.ticks("source_sensor", limit=100_000))
        click.echo(json.dumps({"minutes": minutes, "ticks": ticks, **medians, "growth": growth}))


if __name__ == "__main__":
    main()
