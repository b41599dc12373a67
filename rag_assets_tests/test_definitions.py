"""The asset graph as Dagster loads it: everywhere, at once, and without anything heavy."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.snap.snap_to_yaml import default_values_yaml_from_type_snap

from rag_assets.adapters.parsing.parser import parser_version
from rag_assets.core.models.gate import Rule
from rag_assets.core.names import Asset, Check, Job, Op, Sensor
from rag_assets.definitions import definitions
from rag_assets.defs.resources import KINDS, ChunkerResource, build_resources
from rag_assets.settings import load_settings

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "FlagEmbedding", "wordllama", "xberg", "selectolax", "moto")

FLOW = {
    "source_files": set(),
    "parsed_documents": {"source_files"},
    "chunks": {"parsed_documents"},
    "embeddings": {"chunks"},
    "collection": {"chunks", "embeddings"},
    "live_alias": {"collection"},
    "ingestion_report": {"parsed_documents", "collection", "live_alias"},
    "cost_report": {"ingestion_report"},
    "erasures": set(),
}


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command with an environment that is empty but for what is given."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.slow
def test_the_definitions_are_valid_in_an_empty_environment() -> None:
    result = run("-m", "dagster", "definitions", "validate", "-w", "workspace.yaml")

    assert result.returncode == 0, result.stderr
    assert "All code locations passed validation" in result.stdout + result.stderr


@pytest.mark.slow
def test_dg_finds_the_definitions_and_checks_them(tmp_path: Path) -> None:
    result = run_dg("check", "defs", home=tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "All definitions loaded successfully." in result.stdout


@pytest.mark.slow
def test_dg_lists_all_that_definitions_load(tmp_path: Path) -> None:
    result = run_dg("list", "defs", "--json", home=tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr
    listed = json.loads(result.stdout)
    assert {asset["asset_key"] for asset in listed["assets"]} == named(Asset)
    assert {job["name"] for job in listed["jobs"]} == named(Job)
    assert {sensor["name"] for sensor in listed["sensors"]} == named(Sensor)
    assert {resource["name"] for resource in listed["resources"]} >= set(KINDS)


def run_dg(*command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run Dagster's `dg` in the checkout, as one does in a terminal."""
    folder = Path(sys.executable).parent
    return subprocess.run(
        [folder / "dg", *command],
        cwd=ROOT,
        env={"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_loading_the_definitions_imports_nothing_heavy() -> None:
    code = (
        "import sys; from rag_assets.definitions import definitions; definitions();"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )

    result = run("-c", code)

    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_loading_the_definitions_creates_no_file(tmp_path: Path) -> None:
    code = "from rag_assets.definitions import definitions; definitions()"

    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={}, check=False, capture_output=True
    )

    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_assets_depend_on_each_other_as_the_data_flows() -> None:
    graph = definitions().resolve_asset_graph()

    found = {
        key.to_user_string(): {parent.to_user_string() for parent in graph.get(key).parent_keys}
        for key in graph.get_all_asset_keys()
    }

    assert found == FLOW


def test_launchpads_open_with_what_has_to_be_filled_in() -> None:
    opened = {job.name: launchpad(job) for job in definitions().get_repository_def().get_all_jobs()}

    model = {"config": {"model": ""}}
    for job, op in {
        Job.REGISTER_MODEL: Op.REGISTER,
        Job.BUILD_MODEL: Op.BUILD,
        Job.RETIRE_MODEL: Op.RETIRE,
    }.items():
        assert opened[job] == {"ops": {op: model}}
    assert opened[Job.PROMOTE] == {"ops": {"live_alias": {"config": {"model": "", "reason": ""}}}}
    assert opened[Job.STREAM] == {}
    of_several = {Job.INGEST_DOCUMENTS, Job.INDEX_CHUNKS, Job.RUN_CHECKS, Job.EVALUATE_LIVE}
    of_several |= {Job.REPORT}  # of which one may be selected
    assert {job for job in named(Job) if "resources" in opened[job]} == of_several


def launchpad(job: dg.JobDefinition) -> dict[str, Any]:
    """Return the configuration with which the UI opens the job's launchpad."""
    snapshot = job.get_job_snapshot()
    schema, [mode] = snapshot.config_schema_snapshot, snapshot.mode_def_snaps
    root = schema.get_config_snap(mode.root_config_key or "")
    return dict(yaml.safe_load(default_values_yaml_from_type_snap(schema, root)))


def test_everything_is_named_where_all_names_are() -> None:
    repository = definitions().get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs()} - {"__ASSET_JOB"}
    checks = {key.name for key in repository.asset_graph.asset_check_keys}

    assert {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()} == (
        named(Asset)
    )
    assert jobs == named(Job)
    assert {sensor.name for sensor in repository.sensor_defs} == named(Sensor)
    rules = {f"{Check.GATE_RULE}{rule}" for rule in Rule}
    assert checks == named(Check) - {Check.GATE_RULE} | rules


def named(names: type) -> set[str]:
    """Return the names that a class of names has."""
    return {value for name, value in vars(names).items() if name.isupper()}


def test_partitions_are_shards_and_model_by_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_SHARDS", "5")
    graph = definitions().resolve_asset_graph()

    by_shard = graph.get(dg.AssetKey("chunks")).partitions_def
    by_model = graph.get(dg.AssetKey("embeddings")).partitions_def

    assert by_shard is not None
    assert list(by_shard.get_partition_keys()) == ["s000", "s001", "s002", "s003", "s004"]
    assert isinstance(by_model, dg.MultiPartitionsDefinition)
    assert by_model.partition_dimension_names == ["embedding_model", "shard"]
    assert graph.get(dg.AssetKey("live_alias")).partitions_def is None


def test_every_asset_says_what_it_is() -> None:
    graph = definitions().resolve_asset_graph()

    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description
        assert node.group_name in ("documents", "index", "serving", "operations")


def test_what_searches_find_is_described_with_a_link_to_the_search_page(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = definitions().resolve_asset_graph()
    url = "https://search.example.com/"
    monkeypatch.setenv("RAG_ASSETS_SEARCH_URL", url.replace("://", "://me:secret@"))
    graph = definitions().resolve_asset_graph()

    described = {
        key.to_user_string(): graph.get(key).description for key in graph.get_all_asset_keys()
    }
    linked = {
        name for name, text in described.items() if text and text.endswith(f"Search page: {url}")
    }
    assert linked == {"parsed_documents", "chunks", "collection", "live_alias"}
    before = plain.get(dg.AssetKey("chunks")).description
    assert described["chunks"] == f"{before}\n\nSearch page: {url}"


def test_the_ui_can_show_where_an_assets_data_is_and_what_its_columns_are_made_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_ASSETS_OWNERS", '["team:search", "ada@example.com"]')
    monkeypatch.setenv("RAG_ASSETS_SOURCE_URL", "s3://bucket/handbooks")
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", "http://root:secret@milvus:19530")
    graph = definitions().resolve_asset_graph()
    nodes = {key.to_user_string(): graph.get(key) for key in graph.get_all_asset_keys()}

    assert all(node.owners == ["team:search", "ada@example.com"] for node in nodes.values())
    assert nodes["source_files"].kinds == {"s3"}
    assert nodes["source_files"].metadata["dagster/uri"] == "s3://bucket/handbooks"
    assert nodes["collection"].metadata["dagster/uri"] == "http://milvus:19530"
    for name in set(FLOW) - {"live_alias", "ingestion_report", "cost_report", "erasures"}:
        metadata = nodes[name].metadata
        columns = {column.name for column in metadata["dagster/column_schema"].columns}
        assert all(column.description for column in metadata["dagster/column_schema"].columns)
        for column, deps in metadata["dagster/column_lineage"].deps_by_column.items():
            assert column in columns
            for dep in deps:
                described = metadata["dagster/column_schema"].columns
                [shown] = [found.description for found in described if found.name == column]
                assert f"`{dep.asset_key.to_user_string()}.{dep.column_name}`" in shown
                parent = nodes[dep.asset_key.to_user_string()]
                assert dep.column_name in {
                    found.name for found in parent.metadata["dagster/column_schema"].columns
                }
                assert dep.asset_key in nodes[name].parent_keys


def test_code_versions_are_those_that_the_runs_record(monkeypatch: pytest.MonkeyPatch) -> None:
    def versions() -> dict[str, str | None]:
        graph = definitions().resolve_asset_graph()
        keys = graph.get_all_asset_keys()
        return {key.to_user_string(): graph.get(key).code_version for key in keys}

    before = versions()
    chunker = build_resources(load_settings())["chunker"]
    assert isinstance(chunker, ChunkerResource)
    monkeypatch.setenv("RAG_ASSETS_CHUNK_TOKENS", "100")
    after = versions()

    assert before["parsed_documents"] == parser_version()
    assert before["chunks"] == chunker.version
    assert {name for name in before if before[name] != after[name]} == {"chunks"}


def test_a_wrong_setting_is_named_when_the_definitions_load() -> None:
    result = run("-m", "dagster", "definitions", "validate", "-w", "workspace.yaml",
                 RAG_ASSETS_SHARDS="many", PATH=os.environ["PATH"])  # fmt: skip

    assert result.returncode != 0
    assert "RAG_ASSETS_SHARDS" in result.stdout + result.stderr
