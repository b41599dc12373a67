"""What does a tick of the source sensor cost over a large bucket?

    python -m bench.listing --objects 100000

Generates a bucket (`bench.listing_server`), then ticks the sensor, each time in a new process,
until a listing is complete: the first one, an unchanged one, one with ten changes. Reported are
the seconds on the clock, the CPU seconds of our process, and its peak memory beyond that of a
process that has only loaded the definitions.

Ceiling: S3 lists 1,000 objects a request; botocore's parsing of those pages, which `bare` lists
without anything else, is the least it can cost.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from rag_assets_tests.support.milvus_servers import free_ports


def tick_once() -> None:
    """Tick the sensor until a listing is complete; print what it cost."""
    import dagster as dg  # noqa: PLC0415

    from rag_assets.core.sources.turns import read_cursor  # noqa: PLC0415
    from rag_assets.definitions import definitions  # noqa: PLC0415
    from rag_assets.defs.resources import build_resources  # noqa: PLC0415
    from rag_assets.settings import load_settings  # noqa: PLC0415

    repository = definitions().get_repository_def()
    sensor = repository.get_sensor_def("source_sensor")
    resources, cursor, ticks, longest, requested = build_resources(load_settings()), "{}", 0, 0.0, 0
    base = peak_memory()
    started, cpu = time.monotonic(), time.process_time()
    with dg.DagsterInstance.ephemeral() as instance:
        while ticks == 0 or any(state.after for state in read_cursor(cursor).values()):
            began = time.monotonic()
            context = dg.build_sensor_context(
                instance=instance, repository_def=repository, cursor=cursor, resources=resources
            )
            result = sensor(context)
            cursor, ticks = result.cursor, ticks + 1
            longest = max(longest, time.monotonic() - began)
            requested += len(result.run_requests or ())
    metrics = {
        "seconds": round(time.monotonic() - started, 1),
        "cpu seconds": round(time.process_time() - cpu, 1),
        "peak MB": round(peak_memory() - base),
        "ticks": ticks,
        "longest tick": round(longest, 1),
        "runs requested": requested,
    }
    print(json.dumps(metrics))


def bare_listing() -> None:
    """List the bucket with the client and do nothing with it."""
    import s3fs  # noqa: PLC0415

    fs = s3fs.S3FileSystem(**json.loads(os.environ["RAG_ASSETS_SOURCE_OPTIONS"]))
    base = peak_memory()
    started, cpu, arguments = time.monotonic(), time.process_time(), {}
    while True:
        page = fs.call_s3("list_objects_v2", Bucket="big", Prefix="docs/", **arguments)
        if not page.get("IsTruncated"):
            break
        arguments = {"ContinuationToken": page["NextContinuationToken"]}
    metrics = {
        "seconds": round(time.monotonic() - started, 1),
        "cpu seconds": round(time.process_time() - cpu, 1),
        "peak MB": round(peak_memory() - base),
    }
    print(json.dumps(metrics))


def peak_memory() -> float:
    """Return the peak resident memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_process(function: str) -> dict[str, float]:
    """Run a function of this module in a process of its own; return what it prints."""
    code = f"from bench.listing import {function}; {function}()"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    return dict(json.loads(output.splitlines()[-1]))


@click.command()
@click.option("--objects", default=100_000, show_default=True)
@click.option("--shards", default=0, help="By default one for a thousand objects.")
def main(objects: int, shards: int) -> None:
    """Measure the ticks and print them."""
    import s3fs  # noqa: PLC0415

    [port] = free_ports(1)
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.listing_server", str(port), str(objects)],
        stdout=subprocess.PIPE,
    )
    options = {"endpoint_url": f"http://127.0.0.1:{port}", "key": "test", "secret": "test"}
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "RAG_ASSETS_HOME": str(Path(folder)),
            "RAG_ASSETS_SOURCE_URL": "s3://big/docs",
            "RAG_ASSETS_SOURCE_OPTIONS": json.dumps(options),
            "RAG_ASSETS_SHARDS": str(shards or max(8, objects // 1000)),
        }
        try:
            assert server.stdout is not None
            server.stdout.readline()
            result = {"objects": objects, "bare": in_process("bare_listing")}
            result["first"] = in_process("tick_once")
            result["unchanged"] = in_process("tick_once")
            fs = s3fs.S3FileSystem(**options)
            for number in range(10):
                fs.call_s3("put_object", Bucket="big", Key=f"docs/new-{number}.md", Body=b"new")
            result["ten changes"] = in_process("tick_once")
        finally:
            server.kill()
            server.wait()
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
