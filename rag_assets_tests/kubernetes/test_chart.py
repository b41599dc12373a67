"""The chart, offline: what Helm renders is what Kubernetes, Dagster and the settings accept."""

import json
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from rag_assets.cli.reports.smoke import smoke
from rag_assets.core.models.spec import IndexSpec, ModelSpec
from rag_assets.core.sources.spec import SourceSpec, source_specs
from rag_assets.instance.orchestrator import CANCEL_TIMEOUT
from rag_assets.settings import HIDDEN, Settings
from rag_assets_tests.kubernetes.helm import (
    CHART,
    EXAMPLES,
    PROJECT,
    Manifest,
    example,
    helm,
    one,
    overlaid,
    render,
    rendered,
)

OLDEST = (
    yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"].strip(">=").rpartition(".")[0]
)
NEWEST = kubernetes_validate.latest_version().rpartition(".")[0]
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
OF_OTHERS = {"ServiceMonitor", "PrometheusRule"}  # no kind of Kubernetes's own
OWN = {  # settings that the chart makes itself, or that hold secrets
    *(
        "home",
        "sources_file",
        "models_file",
        "metadata_file",
        "milvus_token",
        "embedding_api_key",
        "alert_webhook_url",
        "rerank_api_key",
        "serve_tokens",
        "serve_tokens_file",
    ),
    *HIDDEN,
}

every_example = pytest.mark.parametrize("name", EXAMPLES)


def pod_specs(manifests: tuple[Manifest, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for manifest in manifests:
        match manifest["kind"]:
            case "Pod":
                spec = manifest["spec"]
            case "Deployment" | "StatefulSet" | "Job":
                spec = manifest["spec"]["template"]["spec"]
            case _:
                continue
        yield manifest["metadata"]["name"], spec


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def instance_of(manifests: tuple[Manifest, ...] | list[Manifest]) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(
        one(manifests, "ConfigMap", "-instance")["data"]["dagster.yaml"]
    )
    return config


@every_example
@pytest.mark.parametrize("version", [OLDEST, "newest"])
def test_helm_finds_nothing_to_complain_about(name: str, version: str) -> None:
    kube_version = NEWEST if version == "newest" else version
    result = helm(
        "lint", "--strict", "--kube-version", kube_version, str(CHART), values=example(name)
    )
    assert result.returncode == 0, result.stdout + result.stderr


@every_example
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_manifest_is_one_of_kubernetes(name: str, version: str) -> None:
    for manifest in rendered(name):
        if manifest["kind"] not in OF_OTHERS:
            kubernetes_validate.validate(manifest, version, strict=True)


@every_example
def test_every_pod_is_restricted_and_writes_to_no_root(name: str) -> None:
    checked = [name for name, spec in pod_specs(rendered(name)) if not_restricted(spec)]
    assert checked == []


def not_restricted(spec: dict[str, Any]) -> list[str]:
    """Return which rules of Pod Security "restricted", and of ours, a pod breaks."""
    pod = spec["securityContext"]
    own = [container["securityContext"] for container in containers(spec)]
    rules = {
        "runAsNonRoot": pod["runAsNonRoot"] is True and pod.get("runAsUser", 1) > 0,
        "seccompProfile": pod["seccompProfile"] == {"type": "RuntimeDefault"},
        "allowPrivilegeEscalation": all(c["allowPrivilegeEscalation"] is False for c in own),
        "capabilities": all(c["capabilities"] == {"drop": ["ALL"]} for c in own),
        "readOnlyRootFilesystem": all(c["readOnlyRootFilesystem"] is True for c in own),
        "SIGTERM": spec["shareProcessNamespace"] is True,  # which process 1 ignores as it starts
        "host": not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(),
        "volumes": all(
            (volume.keys() - {"name"})
            <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
            for volume in spec["volumes"]
        ),
        "resources": all(
            {"cpu", "memory"} <= c["resources"]["requests"].keys()
            and "memory" in c["resources"]["limits"]
            for c in containers(spec)
        ),
        "image": all(c["image"] and not c["image"].endswith(":latest") for c in containers(spec)),
    }
    return [rule for rule, holds in rules.items() if not holds]


def test_the_check_of_restricted_pods_finds_what_is_wrong() -> None:
    spec = one(list(rendered("gpu")), "Deployment", "-code")["spec"]["template"]["spec"]
    broken = json.loads(json.dumps(spec))
    broken["securityContext"]["runAsUser"] = 0
    broken["containers"][0]["securityContext"]["readOnlyRootFilesystem"] = False
    broken["volumes"].append({"name": "host", "hostPath": {"path": "/"}})
    broken["shareProcessNamespace"] = False
    assert not_restricted(spec) == []
    assert not_restricted(broken) == [
        *("runAsNonRoot", "readOnlyRootFilesystem", "SIGTERM", "volumes")
    ]


@every_example
def test_only_accounts_with_rules_have_a_token(name: str) -> None:
    manifests = rendered(name)
    bound = {
        subject["name"]
        for manifest in manifests
        if manifest["kind"] == "RoleBinding"
        for subject in manifest["subjects"]
    }
    with_token = {
        spec["serviceAccountName"]
        for _, spec in pod_specs(manifests)
        if spec["automountServiceAccountToken"]
    }
    assert with_token == {f"docs-rag-assets-{who}" for who in ("daemon", "webserver")}
    assert bound == {*with_token, "docs-rag-assets-run"}  # pods of runs are the launcher's
    assert launcher(manifests)["service_account_name"] == "docs-rag-assets-run"


def test_roles_name_each_resource_and_verb_and_never_secrets() -> None:
    rules = [r for m in rendered("gpu") if m["kind"] == "Role" for r in m["rules"]]
    assert {resource for rule in rules for resource in rule["resources"]} == {
        *("jobs", "jobs/status", "pods", "pods/log", "events"),
    }
    assert {verb for rule in rules for verb in rule["verbs"]} == {"create", "delete", "get", "list"}


def test_runs_that_may_end_no_others_have_no_token_and_no_rules() -> None:
    values = example("gpu")
    values["runs"]["mayEndRuns"] = False
    manifests = render(values)
    spec = launcher(manifests)["run_k8s_config"]["pod_spec_config"]
    assert spec["automountServiceAccountToken"] is False
    assert "docs-rag-assets-run" not in [
        m["metadata"]["name"] for m in manifests if m["kind"] == "Role"
    ]


def launcher(manifests: tuple[Manifest, ...] | list[Manifest]) -> dict[str, Any]:
    config: dict[str, Any] = instance_of(manifests)["run_launcher"]["config"]
    return config


def test_the_instance_is_the_repositorys_but_for_what_a_cluster_does_otherwise() -> None:
    values = example("gpu")
    del values["queue"]
    found = instance_of(render(values))
    expected = yaml.safe_load((PROJECT / "dagster.yaml").read_text())
    for added in ("storage", "local_artifact_storage", "compute_logs"):
        assert added not in expected
        del found[added]
    assert found.pop("run_launcher")["class"] != expected.pop("run_launcher")["class"]
    assert found["run_monitoring"].pop("cancel_timeout_seconds") < CANCEL_TIMEOUT
    pods, processes = (
        config["run_monitoring"].pop("start_timeout_seconds") for config in (found, expected)
    )
    assert pods > processes
    assert found == expected


def test_limits_of_the_values_replace_those_of_the_repository_one_by_one() -> None:
    root = yaml.safe_load((PROJECT / "dagster.yaml").read_text())["run_coordinator"]["config"]
    found = instance_of(rendered("gpu"))["run_coordinator"]["config"]
    expected = [
        {**limit, "limit": 6} if limit["value"] == "bulk" else limit
        for limit in root["tag_concurrency_limits"]
    ]
    gpus = {"key": "rag_assets/model", "limit": 4}
    assert found["tag_concurrency_limits"] == [*expected, gpus]
    assert found["max_concurrent_runs"] == 12
    assert found["dequeue_interval_seconds"] == root["dequeue_interval_seconds"]


@every_example
def test_the_settings_are_valid_and_none_is_unknown(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = rendered(name)
    variables = one(manifests, "ConfigMap", "-settings")["data"]
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    known = {f"RAG_ASSETS_{field.upper()}" for field in Settings.model_fields}
    assert {v for v in variables if v.startswith("RAG_ASSETS_")} <= known
    settings = Settings()
    assert settings.source == example(name)["settings"]["source_url"]
    if specs := example(name).get("models"):
        assert settings.model in specs


def test_model_specs_of_the_values_are_model_specs() -> None:
    document = yaml.safe_load(
        one(rendered("cpu-only"), "ConfigMap", "-models")["data"]["models.yaml"]
    )
    specs = {key: ModelSpec(key=key, **spec) for key, spec in document["models"].items()}
    assert specs["e5-small-v1"].dimension == 384


def test_secrets_come_only_from_secrets_that_exist() -> None:
    kinds = {manifest["kind"] for name in EXAMPLES for manifest in rendered(name)}
    assert "Secret" not in kinds
    for name in EXAMPLES:
        for manifest in rendered(name):
            if manifest["kind"] == "ConfigMap":
                assert (
                    not {"RAG_ASSETS_MILVUS_TOKEN", "AWS_SECRET_ACCESS_KEY"}
                    & manifest["data"].keys()
                )


def test_webserver_and_daemon_find_the_code_server_where_it_is() -> None:
    manifests = rendered("gpu")
    workspace = yaml.safe_load(one(manifests, "ConfigMap", "-instance")["data"]["workspace.yaml"])
    local = yaml.safe_load((PROJECT / "workspace.yaml").read_text())
    [server] = [entry["grpc_server"] for entry in workspace["load_from"]]
    service = one(manifests, "Service", "-code")
    assert server["host"] == service["metadata"]["name"]
    assert server["port"] == service["spec"]["ports"][0]["port"]
    assert server["location_name"] == local["load_from"][0]["python_module"]


@every_example
def test_services_budgets_and_policies_select_pods_that_there_are(name: str) -> None:
    manifests = rendered(name)
    pods = [
        m["spec"]["template"]["metadata"]["labels"]
        for m in manifests
        if m["kind"] in ("Deployment", "StatefulSet")
    ]
    for manifest in manifests:
        spec = manifest.get("spec", {})
        match manifest["kind"]:
            case "Service":
                selector = spec["selector"]
            case "PodDisruptionBudget" | "ServiceMonitor":
                selector = spec["selector"]["matchLabels"]
            case "NetworkPolicy":
                selector = spec["podSelector"]["matchLabels"]
            case _:
                continue
        assert any(selector.items() <= labels.items() for labels in pods), manifest["metadata"][
            "name"
        ]


def test_pods_of_runs_fall_under_the_networkpolicy_that_lets_nobody_in() -> None:
    manifests = rendered("gpu")
    policy = one(manifests, "NetworkPolicy", "docs-rag-assets")["spec"]
    assert policy["podSelector"]["matchLabels"].items() <= launcher(manifests)["labels"].items()
    assert policy["policyTypes"] == ["Ingress"]
    assert "ingress" not in policy


def test_a_changed_setting_starts_new_pods() -> None:
    def checksum(manifests: tuple[Manifest, ...] | list[Manifest]) -> str:
        template = one(manifests, "Deployment", "-code")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/configuration"])

    values = example("gpu")
    values["settings"]["micro_batch"] = 7
    assert checksum(render(values)) != checksum(rendered("gpu"))


REFUSED = {
    "an unknown value": ({"daemno": {}}, "daemno"),
    "an unknown setting": ({"settings": {"shard": 3}}, "shard"),
    "a secret as a value": ({"settings": {"milvus_token": "root:secret"}}, "milvus_token"),
    "a password in an address": (
        {"settings": {"milvus_uri": "http://u:p@milvus:19530"}},
        "milvus_uri",
    ),
    "a source on a disk": ({"settings": {"source_url": "file:///documents"}}, "source_url"),
    "a source and sources": ({"sources": {"hr": {"url": "s3://hr"}}}, "source_url"),
    "an unknown field of a source": ({"sources": {"hr": {"ulr": "s3://hr"}}}, "ulr"),
    "a moving image": ({"image": {"tag": "latest"}}, "tag"),
    "no image tag": ({"image": {"tag": ""}}, "image"),
    "no secret of PostgreSQL": ({"postgres": {"existingSecret": ""}}, "existingSecret"),
    "pods of no known work": ({"runs": {"pods": {"gpus": {}}}}, "gpus"),
    "a quantity that is none": (
        {"runs": {"pods": {"gpu": {"resources": {"limits": {"memory": "8 GB"}}}}}},
        "memory",
    ),
    "root": ({"podSecurity": {"runAsUser": 0}}, "runAsUser"),
    "privileges": ({"podSecurity": {"privileged": True}}, "privileged"),
    "an ingress without a host": ({"ingress": {"enabled": True}}, "host"),
    "an embedding server without an image": ({"embeddingServer": {"enabled": True}}, "image"),
    "a monitor of nothing": ({"serviceMonitor": {"enabled": True}}, "embeddingServer"),
    "a toleration that Kubernetes does not know": (
        {"daemon": {"tolerations": [{"key": "a", "operator": "Is"}]}},
        "operator",
    ),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_refused_and_named(change: dict[str, Any], says: str) -> None:
    result = helm("template", "docs", str(CHART), values=overlaid(example("gpu"), change))
    assert result.returncode != 0
    assert says in result.stderr


def test_the_schema_is_closed_everywhere() -> None:
    assert list(open_objects(SCHEMA, "")) == ["/properties/global", "/$defs/kubernetes"]


def open_objects(schema: Any, place: str) -> Iterator[str]:
    if isinstance(schema, list):
        for number, entry in enumerate(schema):
            yield from open_objects(entry, f"{place}/{number}")
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "additionalProperties" not in schema:
            yield place
        for key, entry in schema.items():
            yield from open_objects(entry, f"{place}/{key}")


def test_the_schema_knows_all_settings_and_fields_of_models() -> None:
    assert (
        SCHEMA["properties"]["settings"]["properties"].keys() == Settings.model_fields.keys() - OWN
    )
    sources = SCHEMA["properties"]["sources"]["additionalProperties"]["properties"]
    assert sources.keys() == SourceSpec.model_fields.keys()
    spec = SCHEMA["properties"]["models"]["additionalProperties"]["properties"]
    assert spec.keys() == ModelSpec.model_fields.keys() - {"key"}
    assert spec["index"]["properties"].keys() == IndexSpec.model_fields.keys()


def test_several_sources_are_declared_in_a_file_that_the_pods_have() -> None:
    values = example("gpu")
    del values["settings"]["source_url"]
    values["sources"] = {"hr": {"url": "s3://hr", "options": {"key": "${HR_KEY}"}}}
    manifests = render(values)

    content = one(manifests, "ConfigMap", "-sources")["data"]["sources.yaml"]
    path = one(manifests, "ConfigMap", "-settings")["data"]["RAG_ASSETS_SOURCES_FILE"]

    assert source_specs(yaml.safe_load(content), path)["hr"].options == {"key": "${HR_KEY}"}
    code = one(manifests, "Deployment", "-code")["spec"]["template"]["spec"]
    [mount] = [m for m in code["containers"][0]["volumeMounts"] if m["name"] == "sources"]
    assert path.startswith(f"{mount['mountPath']}/")


def test_every_value_is_in_the_schema_with_its_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert values.keys() == SCHEMA["properties"].keys() - {"global"}


def test_helm_test_asks_every_part_in_a_pod_of_its_own() -> None:
    pod = one(rendered("gpu"), "Pod", "-test")
    service = one(rendered("gpu"), "Service", "-webserver")["metadata"]["name"]
    [container] = pod["spec"]["containers"]
    program, command, *arguments = container["args"]

    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert (program, command) == ("rag-assets", smoke.name)
    assert smoke.make_context("smoke", arguments).params["ui"] == f"http://{service}:80"
    assert container["image"].endswith("-cuda")
    assert pod["spec"]["restartPolicy"] == "Never"
