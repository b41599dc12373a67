"""The chart rendered: valid for every supported Kubernetes, restricted, and one with our files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._core.instance import InstanceRef
from dagster._core.workspace.load_target import WorkspaceFileTarget

from rag_assets.adapters.model_file import read_model_specs
from rag_assets.core.workloads import POD_KINDS
from rag_assets.pod_launcher import PodRunLauncher
from rag_assets.run_coordinator import TaggingRunCoordinator
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.kubernetes.helm import CHART, EXAMPLES, PROJECT, helm, render
from rag_assets_tests.kubernetes.objects import Object, faults, pod_template, restricted_faults

OLDEST, NEWEST = "1.29.0", "1.37.0"  # Chart.yaml says from when on
OF_THE_CHART = {  # set by the chart itself, or secret
    *("home", "models_file", "milvus_ca_file", "milvus_token", "embedding_api_key"),
    *("source_options", "lake_options", "events_options"),
}
WITH_PODS = ("Deployment", "Job", "CronJob", "Pod")


def example(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((PROJECT / "helm/examples" / f"{name}.yaml").read_text()))


def laid_over(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return the values with one of them replaced, which is named by its path."""
    copy = json.loads(json.dumps(values))
    *parents, last = path.split("/")
    place = copy
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return dict(copy)


def config_map(bodies: list[Object], name: str) -> dict[str, str]:
    found = (b for b in bodies if b["kind"] == "ConfigMap" and b["metadata"]["name"] == name)
    return dict(next(found)["data"])


ALL_ON = {
    "embeddingServer": {"enabled": True, "image": "registry.example/tei:1"},
    "ingress": {"enabled": True, "host": "dagster.example.org", "tlsSecret": "tls"},
    "serviceMonitor": {"enabled": True},
    "modelCache": {"claim": {"enabled": True}},
    "caBundle": {"configMap": "ca"},
    "networkPolicy": {"egress": {"enabled": True}, "webserverFrom": [{"podSelector": {}}]},
    "imagePullSecrets": [{"name": "registry"}],
    "webserver": {"replicas": 2, "pathPrefix": "/dagster", "readOnly": True},
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_pass_helms_own_linter(path: Path) -> None:
    result = helm("lint", "--strict", str(CHART), "--values", str(path))

    assert result.returncode == 0, result.stdout + result.stderr


def rendered() -> Iterator[tuple[str, list[Object]]]:
    for path in EXAMPLES:
        yield path.stem, render(example(path.stem))
    yield "everything", render(example("cpu") | ALL_ON)


@pytest.fixture(scope="module")
def all_rendered() -> dict[str, list[Object]]:
    return dict(rendered())


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_strictly_valid(
    all_rendered: dict[str, list[Object]], version: str
) -> None:
    found = {
        f"{name}: {body['kind']} {body['metadata']['name']}": why
        for name, bodies in all_rendered.items()
        for body in bodies
        if body["kind"] != "ServiceMonitor"  # not Kubernetes's own
        if (why := faults(body, version))
    }

    assert not found


def test_every_pod_keeps_to_the_restricted_standard(all_rendered: dict[str, list[Object]]) -> None:
    for bodies in all_rendered.values():
        for body in bodies:
            if body["kind"] in WITH_PODS:
                spec = pod_template(body)["spec"]
                assert list(restricted_faults(spec)) == [], body["metadata"]["name"]
                for container in spec["containers"]:
                    assert container["securityContext"]["readOnlyRootFilesystem"] is True


def test_only_what_asks_the_api_server_has_a_token(all_rendered: dict[str, list[Object]]) -> None:
    holders = {
        body["metadata"]["name"].removeprefix("rag-assets-")
        for body in all_rendered["everything"]
        if body["kind"] in WITH_PODS
        if pod_template(body)["spec"]["automountServiceAccountToken"]
    }

    assert holders == {"daemon", "webserver", "reaper"}


def test_the_chart_makes_no_secret_and_no_cluster_role(
    all_rendered: dict[str, list[Object]],
) -> None:
    kinds = {body["kind"] for bodies in all_rendered.values() for body in bodies}

    assert not kinds & {"Secret", "ClusterRole", "ClusterRoleBinding"}
    for bodies in all_rendered.values():
        rules = [rule for body in bodies if body["kind"] == "Role" for rule in body["rules"]]
        assert "*" not in json.dumps(rules)


@pytest.mark.parametrize("name", [path.stem for path in EXAMPLES])
def test_dagster_takes_the_instance_and_has_all_that_ours_has(name: str, tmp_path: Path) -> None:
    given = config_map(render(example(name)), "rag-assets-instance")
    (tmp_path / "dagster.yaml").write_text(given["dagster.yaml"])
    (tmp_path / "workspace.yaml").write_text(given["workspace.yaml"])

    ref = InstanceRef.from_dir(str(tmp_path))  # refuses what Dagster does not know

    coordinator, launcher = ref.run_coordinator_data, ref.run_launcher_data
    assert coordinator is not None
    assert launcher is not None
    assert (coordinator.class_name, launcher.class_name) == (
        TaggingRunCoordinator.__name__,
        PodRunLauncher.__name__,
    )
    pods = yaml.safe_load(launcher.config_yaml)["pods"]
    assert set(pods) == set(POD_KINDS)
    assert WorkspaceFileTarget([str(tmp_path / "workspace.yaml")]).create_origins()


def test_the_cluster_differs_from_the_local_instance_in_what_it_must_only() -> None:
    here = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    there = yaml.safe_load(config_map(render(example("gpu")), "rag-assets-instance")["dagster.yaml"])

    changed = {key for key in here if here[key] != there[key]}
    assert changed == {"run_coordinator", "run_launcher", "run_monitoring", "run_retries"}
    assert set(there) - set(here) == {"storage", "compute_logs", "local_artifact_storage"}
    ours, theirs = (d["run_coordinator"]["config"]["tag_concurrency_limits"] for d in (here, there))
    assert [limit["key"] for limit in theirs] == ["rag_assets/work", *(limit["key"] for limit in ours)]
    module = yaml.safe_load((PROJECT / "workspace.yaml").read_text())["load_from"][0]
    rendered_code = next(b for b in render(example("gpu")) if b["metadata"]["name"] == "rag-assets-code")
    assert module["python_module"] in pod_template(rendered_code)["spec"]["containers"][0]["args"]


def test_the_settings_of_every_example_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in EXAMPLES:
        bodies = render(example(path.stem))
        with monkeypatch.context() as patch:
            for name, value in config_map(bodies, "rag-assets-settings").items():
                if name.startswith("RAG_ASSETS_") and not name.endswith("_FILE"):
                    patch.setenv(name, value)
            settings = load_settings()
        for name, value in example(path.stem)["settings"].items():
            assert getattr(settings, name) == value


def test_the_models_of_the_examples_are_accepted(tmp_path: Path) -> None:
    written = config_map(render(example("cpu")), "rag-assets-models")["models.yaml"]
    (tmp_path / "models.yaml").write_text(written)

    specs = read_model_specs(tmp_path / "models.yaml")

    assert example("cpu")["settings"]["model"] in specs


def test_the_schema_knows_every_setting() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    known = set(schema["properties"]["settings"]["properties"])
    assert known == set(Settings.model_fields) - OF_THE_CHART
    assert set(schema["properties"]["runs"]["properties"]["pods"]["properties"]) == set(POD_KINDS)


def test_the_schema_is_closed() -> None:
    def open_objects(schema: Any, path: str) -> Iterator[str]:
        if isinstance(schema, dict):
            if "properties" in schema and schema.get("type") == "object":
                if schema.get("additionalProperties") is not False:
                    yield path
            for name, value in schema.items():
                yield from open_objects(value, f"{path}/{name}")

    assert list(open_objects(json.loads((CHART / "values.schema.json").read_text()), "")) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", 3),
        ("image/tag", "latest"),
        ("image/tag", ""),
        ("postgres/existingSecret", ""),
        ("postgres/password", "hunter2"),
        ("credentials/milvusToken", "hunter2"),
        ("settings/source_url", "s3://key:secret@bucket/docs"),
        ("settings/milvus_uri", "milvus:19530"),
        ("settings/milvus_uri", "https://root:Milvus@milvus:19530"),
        ("settings/milvus_token", "root:Milvus"),
        ("settings/source_options", {"secret": "hunter2"}),
        ("settings/shards", 0),
        ("settings/shard", 8),
        ("webserver/replicas", "two"),
        ("runs/gpuQuota", 0),
        ("runs/pods/index_bulk/resource", {}),
        ("runs/pods/index_bulk/tolerations", [{"key": "a", "effect": "Sometimes"}]),
        ("runs/pods/bulk", {}),
        ("embeddingServer", {"enabled": True}),
        ("ingress", {"enabled": True}),
        ("networkPolicy/enable", False),
    ],
)
def test_values_that_cannot_be_meant_are_refused(path: str, value: Any) -> None:
    result = helm("template", "x", str(CHART), values=laid_over(example("gpu"), path, value))

    assert result.returncode != 0
    assert path.split("/")[0] in result.stderr


def test_the_chart_cannot_be_installed_without_saying_where() -> None:
    result = helm("template", "x", str(CHART))

    missing = ("/image/repository", "/postgres/host", "/settings/source_url", "/settings/lake_url")
    assert result.returncode != 0
    assert all(name in result.stderr for name in missing)
