"""How much is embedded for a history of real edits, and is the index right at the end?

    python -m bench.replay FOLDER --commits 300

The folder has `batches.jsonl` (batch 0 is the snapshot, each later line one commit, with `put`
[[path, blob]], `delete` [path] and `rename` [[from, to, blob]]) and `blobs/`. Each batch is applied
to a bucket of moto's S3 server; then the sensors are ticked, and the runs that they request are
executed in this process, until they request none. At the end the same bucket is built afresh into
another lake and collection, and both are compared row by row, vectors included.

Floor: the distinct texts of a batch that no chunk had before.
"""

import json
import os
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import dagster as dg
import numpy as np

from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.cli.ingestion import build_first_model
from rag_assets.core.names import Job
from rag_assets.definitions import definitions
from rag_assets.defs.resources import build_resources
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.support.held import milvus_client
from rag_assets_tests.support.lake_files import read_lake
from rag_assets_tests.support.milvus_servers import lite_server
from rag_assets_tests.support.s3_server import Bucket, new_bucket, s3_server

STAGES = ("source_sensor", "index_sensor")


class Platform:
    """The sensors and jobs of one lake, run in this process."""

    def __init__(self, instance: dg.DagsterInstance, settings: Settings) -> None:
        self.instance = instance
        self.settings = settings
        self.repository = definitions().get_repository_def()
        self.resources = build_resources(settings)
        self.work: Counter[str] = Counter()
        build_first_model(instance, settings)

    def settle(self) -> None:
        """Tick and run until the sensors request no runs."""
        while True:
            requests = [request for name in STAGES for request in self._tick(name)]
            if not requests:
                return
            for request in requests:
                self._run(request)

    def texts(self) -> set[str]:
        """Return the digests of all texts that chunks have now."""
        return {*read_lake(Path(self.settings.home, "lake"), "chunks")["text_digest"]}

    def _tick(self, name: str) -> list[dg.RunRequest]:
        context = dg.build_sensor_context(
            instance=self.instance,
            repository_def=self.repository,
            cursor="{}" if name == STAGES[0] else None,
            resources=self.resources,
        )
        result = self.repository.get_sensor_def(name)(context)
        assert isinstance(result, dg.SensorResult)
        return [one for one in result.run_requests or () if one.job_name != Job.PROMOTE]

    def _run(self, request: dg.RunRequest) -> None:
        job = self.repository.get_job(str(request.job_name))
        result = job.get_subset(
            asset_selection=set(request.asset_selection or ()) or None,
            asset_check_selection=set(),
        ).execute_in_process(
            instance=self.instance,
            tags=dict(request.tags),
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        self.work["runs"] += 1
        for event in result.get_asset_materialization_events():
            materialization = event.step_materialization_data.materialization
            asset = materialization.asset_key.to_user_string()
            for metric, value in materialization.metadata.items():
                if isinstance(value, dg.IntMetadataValue):
                    self.work[f"{asset}.{metric.removeprefix('rag_assets/')}"] += value.value or 0


def apply(bucket: Bucket, blobs: Path, batch: dict[str, Any]) -> None:
    """Do to the bucket what a commit did."""
    for path in batch.get("delete", ()):
        bucket.delete(f"docs/{path}")
    for old, new, blob in batch.get("rename", ()):
        bucket.delete(f"docs/{old}")
        bucket.put(f"docs/{new}", (blobs / blob).read_bytes())
    for path, blob in batch.get("put", ()):
        bucket.put(f"docs/{path}", (blobs / blob).read_bytes())


def rows(settings: Settings) -> tuple[dict[str, str], np.ndarray]:
    """Return every row's digest by its key, and the vectors in the order of the keys."""
    client = milvus_client(settings.milvus_uri)
    with MilvusStore.connect(settings.milvus_uri) as store:
        [name] = [n for n in store.collections() if n.startswith(f"{settings.alias}__")]
    found: list[dict[str, Any]] = []
    for number in range(settings.shards):
        fields = ["chunk_id", "row_digest", "vector"]
        condition = f'shard == "s{number:03}"'
        found += client.query(name, condition, fields, consistency_level="Strong")
    client.close()
    found.sort(key=lambda row: str(row["chunk_id"]))
    digests = {row["chunk_id"]: row["row_digest"] for row in found}
    return digests, np.array([row["vector"] for row in found])


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--commits", default=300, show_default=True)
def main(folder: Path, commits: int) -> None:
    """Replay the history and print what it took."""
    [batches_file] = folder.rglob("batches.jsonl")
    lines = batches_file.read_text().splitlines()[: commits + 1]
    batches, blobs = [json.loads(line) for line in lines], batches_file.parent / "blobs"
    with tempfile.TemporaryDirectory() as name, s3_server() as endpoint:
        home = Path(name)
        milvus = lite_server(home)
        milvus.start()
        bucket = new_bucket(endpoint)
        os.environ |= {
            "RAG_ASSETS_SOURCE_URL": f"{bucket.url}/docs",
            "RAG_ASSETS_SOURCE_OPTIONS": json.dumps(bucket.options),
            "RAG_ASSETS_MILVUS_URI": milvus.uri,
        }
        try:
            result = replay(bucket, blobs, batches, home)
        finally:
            milvus.kill()
    click.echo(json.dumps(result, indent=1))
    if not result["index equals a fresh build"]:
        raise SystemExit(1)


def replay(
    bucket: Bucket, blobs: Path, batches: list[dict[str, Any]], home: Path
) -> dict[str, Any]:
    """Apply all batches, then build afresh and compare."""
    with dg.DagsterInstance.ephemeral() as instance:
        platform = Platform(instance, _settings(home / "replayed", "replayed"))
        apply(bucket, blobs, batches[0])
        platform.settle()
        first, known, changed, started = Counter(platform.work), platform.texts(), 0, time.time()
        for number, batch in enumerate(batches[1:], 1):
            apply(bucket, blobs, batch)
            platform.settle()
            now = platform.texts()
            changed += len(now - known)
            known = now
            if number % 25 == 0:
                click.echo(f"{number} commits, {time.time() - started:.0f} s", err=True)
        later = platform.work - first
        seconds = time.time() - started
        digests, vectors = rows(platform.settings)
        fresh = Platform(instance, _settings(home / "fresh", "fresh"))
        fresh.settle()
        fresh_digests, fresh_vectors = rows(fresh.settings)
        return {
            "commits": len(batches) - 1,
            "first load": {k: first[k] for k in ("chunks.chunks", "embeddings.computed", "runs")},
            "afterwards": {
                "texts that are new": changed,
                "texts embedded": later["embeddings.computed"],
                "documents parsed": later["parsed_documents.parsed"],
                "rows written": later["collection.written"],
                "rows deleted": later["collection.deleted"],
                "runs": later["runs"],
                "seconds": round(seconds),
            },
            "rows at the end": len(digests),
            "index equals a fresh build": digests == fresh_digests
            # The same text in another batch may differ in the last bits.
            and bool(np.allclose(vectors, fresh_vectors, atol=1e-5)),
        }


def _settings(home: Path, alias: str) -> Settings:
    os.environ |= {"RAG_ASSETS_HOME": str(home), "RAG_ASSETS_ALIAS": alias}
    return load_settings()


if __name__ == "__main__":
    main()
