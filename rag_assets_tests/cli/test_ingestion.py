"""The jobs on a real Dagster instance: what runs do, record and refuse."""

import json
import shutil
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
import yaml
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG

from rag_assets.cli import ingestion
from rag_assets.core.documents.document import Outcome
from rag_assets.core.errors import MoveRefusedError, PromotionRefusedError, StaleInputError
from rag_assets.core.names import LOCATION, Job, Tag
from rag_assets.definitions import definitions
from rag_assets.instance.event_log import check_evaluations
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.filled import Fillings, by_command, fillings
from rag_assets_tests.support.hostile import hostile_files
from rag_assets_tests.support.lake_files import read_lake
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.s3_server import Bucket

__all__ = ["fillings"]

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(tmp_path: Path, milvus_lite: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A platform of its own: home, instance, alias; four documents in the source."""
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path))
    monkeypatch.setenv("RAG_ASSETS_SHARDS", "3")
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", milvus_lite)
    monkeypatch.setenv("RAG_ASSETS_ALIAS", f"live_{tmp_path.name.replace('-', '_')}")
    monkeypatch.setenv("RAG_ASSETS_MAX_DOCUMENT_BYTES", "200000000")
    monkeypatch.setenv("RAG_ASSETS_PARSE_TIMEOUT_SECONDS", "30")  # one file takes all of it
    monkeypatch.setenv("RAG_ASSETS_PARSE_MEMORY_BYTES", "600000000")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    shutil.copy(ROOT / "dagster.yaml", tmp_path / "dagster")
    for number in range(4):
        write(tmp_path, f"{number}.md", document(f"doc {number}"))
    return load_settings()


@pytest.fixture
def ingested(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A platform of four documents, ingested."""
    documents = (f"{number}.md" for number in range(4))
    fillings(*documents, fill=by_command).restored(monkeypatch)
    return load_settings()


def write(home: Path, name: str, content: str | bytes) -> None:
    path = home / "documents" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_ingestion_makes_documents_searchable_and_a_second_run_does_nothing(
    settings: Settings,
) -> None:
    write(settings.home, "kiln.md", "# Kiln\n\nThe kiln is fired at 1,240 degrees on Fridays.\n")

    first = ingestion.ingest(settings)
    second = ingestion.ingest(settings)

    assert first["parsed_documents"]["parsed"] == 5
    assert first["embeddings"]["computed"] == first["chunks"]["chunks"] > 0
    assert first["collection"]["written"] == first["chunks"]["chunks"]
    assert second["parsed_documents"]["parsed"] == 0
    assert second["embeddings"]["computed"] == 0
    assert second["collection"]["written"] == second["collection"]["deleted"] == 0
    with dg.DagsterInstance.get() as instance:
        assert instance.get_runs_count(dg.RunsFilter(job_name="promote")) == 1  # it is live already
    with Searcher.open(settings) as searcher:
        best = searcher.search("How hot is the kiln?", 1)[0]
    assert (best.document_id, best.heading) == ("kiln.md", "Kiln")
    assert best.source_uri == (settings.home / "documents/kiln.md").as_uri()


def test_a_home_that_was_moved_goes_on_and_embeds_nothing(
    ingested: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = tmp_path / "moved"
    shutil.copytree(ingested.home, moved)  # a copy has times of its own
    monkeypatch.setenv("RAG_ASSETS_HOME", str(moved))
    monkeypatch.setenv("DAGSTER_HOME", str(moved / "dagster"))

    work = ingestion.ingest(load_settings())

    assert work["source_files"]["added"] == work["source_files"]["removed"] == 0
    assert work["embeddings"]["computed"] == 0
    with Searcher.open() as searcher:
        hits = searcher.search("doc 1", 20)
    assert {hit.source_uri for hit in hits} == {
        (moved / f"documents/{number}.md").as_uri() for number in range(4)
    }


def test_runs_of_commands_belong_to_the_code_location_as_those_of_its_daemon_do(
    ingested: Settings,
) -> None:
    ingestion.take_stock()

    with dg.DagsterInstance.get() as instance:
        mine = dg.RunsFilter(tags={REPOSITORY_LABEL_TAG: f"__repository__@{LOCATION}"})
        runs = instance.get_runs(mine)
        shown = check_evaluations(instance, repository().asset_graph.asset_check_keys)
    assert {run.job_name for run in runs} == {
        *(Job.INGEST_DOCUMENTS, Job.INDEX_CHUNKS, Job.PROMOTE),
        *(Job.RUN_CHECKS, Job.EVALUATE_LIVE, Job.REPORT),
    }
    assert all(run.remote_job_origin and run.tags[Tag.REASON] for run in runs)
    assert {run.tags.get(Tag.MODEL) for run in runs} == {ingested.model, None}
    everything = {key.to_user_string() for key in repository().asset_graph.asset_check_keys}
    assert {name for name, (evaluation, _) in shown.items() if evaluation.passed} == everything


def repository() -> dg.RepositoryDefinition:
    return definitions().get_repository_def()


def test_each_partition_is_materialised_with_its_own_metrics(ingested: Settings) -> None:
    with dg.DagsterInstance.get() as instance:
        for shard in ("s000", "s001", "s002"):
            head = pl.read_parquet(ingested.home / f"lake/chunks/{shard}.parquet")
            actual = head["rows"].sum()
            model_shard = f"{WORDLLAMA}|{shard}"
            assert metric(instance, "chunks", shard, "chunks") == actual
            assert metric(instance, "embeddings", model_shard, "computed") == actual
            assert metric(instance, "collection", model_shard, "written") == actual


def metric(instance: dg.DagsterInstance, asset: str, partition: str, name: str) -> object:
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(asset), asset_partitions=[partition]), limit=1
    )
    materialization = found.records[0].asset_materialization
    assert materialization is not None
    return materialization.metadata[f"rag_assets/{name}"].value


def test_hostile_files_are_quarantined_and_stop_nothing(settings: Settings) -> None:
    hostile = hostile_files()
    for name, (content, _) in hostile.items():
        write(settings.home, f"hostile/{name}", content)

    work = ingestion.ingest(settings)

    desired = {f"hostile/{name}": outcomes for name, (_, outcomes) in hostile.items()}
    found = outcomes_by_document(settings)
    assert {name: found[name] for name in desired if found[name] not in desired[name]} == {}
    assert all(found[f"{number}.md"] is Outcome.PARSED for number in range(4))
    quarantined = sum(outcome.quarantined for outcome in found.values())
    assert work["parsed_documents"]["quarantined"] == quarantined > 30
    assert ingestion.ingest(settings)["parsed_documents"]["parsed"] == 0


def outcomes_by_document(settings: Settings) -> dict[str, Outcome]:
    table = read_lake(settings.home / "lake", "parsed_documents")
    for row in table.iter_rows(named=True):
        assert (row["error"] is None) == (row["outcome"] == Outcome.PARSED)
    return {row["document_id"]: Outcome(row["outcome"]) for row in table.iter_rows(named=True)}


@pytest.mark.usefixtures("settings")
def test_an_asset_whose_input_is_missing_says_what_to_materialise() -> None:
    with dg.DagsterInstance.get() as instance:
        ingestion.build_first_model(instance, load_settings())

    with pytest.raises(StaleInputError, match="materialise chunks first"):
        ingestion.run_job("index_chunks", [f"{WORDLLAMA}|s000"])


def test_an_incomplete_collection_is_not_made_live(ingested: Settings) -> None:
    with Searcher.open(ingested) as searcher:
        store, name = searcher._store, searcher.release().collection
        lost = store.shard_rows(name, "s001")["chunk_id"].to_list()
        store.delete(name, lost)

        with pytest.raises(PromotionRefusedError, match=f"s001: {len(lost)} rows missing"):
            ingestion.run_job("promote")


def test_ingesting_with_another_model_makes_that_one_live(
    ingested: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = yaml.safe_load(ingested.models_file.read_text())
    models["models"]["second-v1"] = models["models"][WORDLLAMA] | {"query_prefix": "query: "}
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(models))
    monkeypatch.setenv("RAG_ASSETS_MODELS_FILE", str(tmp_path / "models.yaml"))
    monkeypatch.setenv("RAG_ASSETS_MODEL", "second-v1")
    write(ingested.home, "new.md", document("new"))

    work = ingestion.ingest(load_settings())

    assert work["parsed_documents"]["parsed"] == 1
    assert work["embeddings"]["computed"] == work["chunks"]["chunks"]
    with Searcher.open() as searcher:
        assert searcher.release().spec.key == "second-v1"


def test_a_model_that_was_never_indexed_is_not_made_live(settings: Settings) -> None:
    with pytest.raises(MoveRefusedError, match="not registered"):
        ingestion.run_job("promote")
    with dg.DagsterInstance.get() as instance:
        ingestion.build_first_model(instance, settings)
    shown, error = ingestion.run_step("promote", {})
    assert error.startswith("The gate refuses: signature")
    assert "there is no collection" in shown[0].evidence

    with Searcher.open(settings) as searcher:
        assert not searcher._store.exists(f"{settings.alias}__wordllama_256_v1")


@pytest.mark.usefixtures("settings")
def test_a_bucket_and_a_lake_on_s3_work_as_folders_do(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        bucket.put(f"docs/{number}.md", document(f"doc {number}").encode())
    monkeypatch.setenv("RAG_ASSETS_SOURCE_URL", f"{bucket.url}/docs")
    monkeypatch.setenv("RAG_ASSETS_LAKE_URL", f"{bucket.url}/lake")
    monkeypatch.setenv("RAG_ASSETS_SOURCE_OPTIONS", json.dumps(bucket.options))
    monkeypatch.setenv("RAG_ASSETS_LAKE_OPTIONS", json.dumps(bucket.options))
    first = ingestion.ingest(load_settings())
    bucket.put("docs/1.md", b"# Kiln\n\nThe kiln is fired at 1,240 degrees on Fridays.\n")
    bucket.delete("docs/2.md")

    second = ingestion.ingest(load_settings())
    third = ingestion.ingest(load_settings())

    assert (first["parsed_documents"]["parsed"], first["source_files"]["added"]) == (5, 5)
    assert second["parsed_documents"]["parsed"] == 1
    assert second["embeddings"]["computed"] == 1
    assert second["parsed_documents"]["removed"] == 1
    assert third["collection"]["written"] == third["collection"]["deleted"] == 0
    with Searcher.open() as searcher:
        best = searcher.search("How hot is the kiln?", 1)[0]
    assert (best.document_id, best.source_uri) == ("1.md", f"{bucket.url}/docs/1.md")


@pytest.mark.usefixtures("ingested")
def test_a_lake_filled_from_one_source_refuses_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAG_ASSETS_SOURCE_URL", (tmp_path / "elsewhere").as_uri())

    with pytest.raises(Exception, match="filled with source"):
        ingestion.ingest(load_settings())


def test_a_source_that_does_not_exist_fails_the_run_and_removes_nothing(
    ingested: Settings,
) -> None:
    documents = ingested.home / "documents"
    documents.rename(ingested.home / "unmounted")

    with pytest.raises(Exception, match="does not exist"):
        ingestion.ingest(ingested)

    (ingested.home / "unmounted").rename(documents)
    assert ingestion.ingest(ingested)["collection"]["written"] == 0
