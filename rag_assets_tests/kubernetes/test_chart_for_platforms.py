"""What a platform team sets on everything that runs in its clusters, and on single components."""

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from rag_assets_tests.kubernetes.helm import CHART, Manifest, example, one, overlaid, render
from rag_assets_tests.kubernetes.test_chart import NEWEST, instance_of, not_restricted, pod_specs
from rag_assets_tests.kubernetes.test_chart_in_dagster import home_with, job_of

DEFAULTS: dict[str, Any] = {
    "nodeSelector": {"pool": "documents"},
    "tolerations": [{"key": "documents", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "documents",
    "runtimeClassName": "gvisor",
    "annotations": {"sidecar.istio.io/inject": "false"},
    "labels": {"cost-centre": "4711"},
    "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "envFrom": [{"configMapRef": {"name": "proxy"}}],
    "volumes": [{"name": "trust", "configMap": {"name": "trust"}}],
    "volumeMounts": [{"name": "trust", "mountPath": "/etc/trust"}],
}
EVERYTHING = {"podDefaults": DEFAULTS, "modelCache": {"image": "registry.example/weights:1"}}


def rendered_with(*changes: dict[str, Any]) -> list[Manifest]:
    """Return the manifests of a release with every component, and these values."""
    values = example("cpu-only")
    for change in changes:
        values = overlaid(values, change)
    return render(values)


def templates(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return all pods of a release but those of runs, by component."""
    found = [
        m if m["kind"] == "Pod" else m["spec"].get("template") for m in manifests if "spec" in m
    ]
    pods = [pod for pod in found if pod]
    return {pod["metadata"]["labels"]["app.kubernetes.io/component"]: pod for pod in pods}


def missing(pod: Manifest) -> list[str]:
    """Return which of the defaults a pod does not have."""
    spec, [container] = pod["spec"], pod["spec"]["containers"]
    places = {"annotations": pod["metadata"], "labels": pod["metadata"]}
    places |= dict.fromkeys(("env", "envFrom", "volumeMounts"), container)
    return [
        field
        for field, value in DEFAULTS.items()
        if not _holds(places.get(field, spec).get(field), value)
    ]


def _holds(found: Any, value: Any) -> bool:
    if isinstance(value, dict):
        return bool((found or {}).items() >= value.items())
    if isinstance(value, list):
        return all(one in (found or []) for one in value)
    return bool(found == value)


def test_every_pod_has_what_is_set_for_all_and_stays_restricted() -> None:
    manifests = rendered_with(EVERYTHING)
    pods = templates(manifests)

    assert pods.keys() == {
        *("code", "daemon", "webserver", "search-service", "embeddings", "metrics"),
        *("migration", "first-model", "test"),
    }
    assert {component: missing(pod) for component, pod in pods.items() if missing(pod)} == {}
    for manifest in manifests:
        if "template" in manifest.get("spec", {}) or manifest["kind"] == "Pod":
            kubernetes_validate.validate(manifest, NEWEST, strict=True)
    assert [name for name, spec in pod_specs(tuple(manifests)) if not_restricted(spec)] == []


@pytest.mark.parametrize("name", ["cpu-only"])
def test_so_have_the_pods_of_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    values = overlaid(example(name), EVERYTHING)
    values["runs"]["pods"]["gpu"] = {
        "nodeSelector": {"gpu": "small"},
        "env": [{"name": "A", "value": "b"}],
    }
    manifests = render(values)
    home = home_with(manifests, tmp_path, monkeypatch)
    pods = instance_of(manifests)["run_launcher"]["config"]["pods"]

    job = job_of(home, [pods["gpu"], pods["bulk"], pods["gpu_bulk"]])

    kubernetes_validate.validate(job, NEWEST, strict=True)
    pod = job["spec"]["template"]
    assert missing(pod) == []
    assert not_restricted(pod["spec"]) == []
    assert pod["spec"]["nodeSelector"] == {"pool": "documents", "gpu": "small"}
    assert {"name": "A", "value": "b"} in pod["spec"]["containers"][0]["env"]
    assert pod["metadata"]["annotations"].keys() > DEFAULTS["annotations"].keys()  # those of bulk


def test_a_components_own_fields_go_over_and_beside_those_of_all() -> None:
    own = {
        "nodeSelector": {"pool": "ui", "disk": "fast"},
        "tolerations": [{"key": "ui", "operator": "Exists"}],
        "priorityClassName": "ui",
    }
    pods = templates(rendered_with(EVERYTHING, {"webserver": own, "migration": own}))

    for component in ("webserver", "migration"):
        spec = pods[component]["spec"]
        assert spec["nodeSelector"] == own["nodeSelector"]
        assert spec["tolerations"] == [*DEFAULTS["tolerations"], *own["tolerations"]]
        assert spec["priorityClassName"] == "ui"
    assert pods["daemon"]["spec"]["nodeSelector"] == DEFAULTS["nodeSelector"]


def test_labels_of_the_values_do_not_replace_those_that_services_select_by() -> None:
    taken = {"app.kubernetes.io/component": "mine", "app.kubernetes.io/name": "mine"}
    manifests = rendered_with({"podDefaults": {"labels": taken}})

    selector = one(manifests, "Service", "-webserver")["spec"]["selector"]
    assert selector.items() <= templates(manifests)["webserver"]["metadata"]["labels"].items()


def test_several_webservers_are_spread_over_nodes() -> None:
    manifests = rendered_with({"webserver": {"replicas": 3}})
    deployment = one(manifests, "Deployment", "-webserver")["spec"]
    [spread] = deployment["template"]["spec"]["topologySpreadConstraints"]

    assert deployment["replicas"] == 3
    assert spread["topologyKey"] == "kubernetes.io/hostname"
    assert spread["labelSelector"] == deployment["selector"]


def test_there_is_one_daemon_at_a_time_and_a_broken_one_is_replaced() -> None:
    """A StatefulSet replaces no pod that still ends; if Parallel, nor waits for a broken one."""
    daemon = one(rendered_with(), "StatefulSet", "-daemon")["spec"]

    assert (daemon["replicas"], daemon["podManagementPolicy"]) == (1, "Parallel")


def test_existing_accounts_are_used_and_bound_and_not_made() -> None:
    accounts = {
        "daemon": "their-daemon",
        "runs": "their-runs",
        "search": "their-search",
        "embeddingServer": "their-embeddings",
    }
    manifests = rendered_with({k: {"serviceAccountName": v} for k, v in accounts.items()})
    made = {m["metadata"]["name"] for m in manifests if m["kind"] == "ServiceAccount"}
    used = {pod["spec"]["serviceAccountName"] for pod in templates(manifests).values()}
    launcher = instance_of(manifests)["run_launcher"]["config"]["service_account_name"]
    bindings = {
        m["metadata"]["name"]: m["subjects"][0]["name"]
        for m in manifests
        if m["kind"] == "RoleBinding"
    }

    assert made == {"docs-rag-assets-code", "docs-rag-assets-webserver"}
    assert used == {*made, "default", *accounts.values()}
    assert launcher == "their-runs"
    assert bindings == {
        "docs-rag-assets-daemon": "their-daemon",
        "docs-rag-assets-run": "their-runs",
        "docs-rag-assets-webserver": "docs-rag-assets-webserver",
    }


def test_roles_can_be_left_to_somebody_else() -> None:
    kinds = {m["kind"] for m in rendered_with({"rbac": {"create": False}})}
    assert not kinds & {"Role", "RoleBinding"}
    assert "ServiceAccount" in kinds


@pytest.mark.parametrize(
    ("component", "name"),
    [("webserver", "webserver"), ("search", "search-service"), ("embeddingServer", "embeddings")],
)
def test_services_are_of_the_type_and_with_the_annotations_of_the_values(
    component: str, name: str
) -> None:
    service = {
        "type": "LoadBalancer",
        "annotations": {"internal": "true"},
        "labels": {"team": "a"},
        "loadBalancerSourceRanges": ["10.0.0.0/8"],
    }
    found = one(rendered_with({component: {"service": service}}), "Service", f"-{name}")

    kubernetes_validate.validate(found, NEWEST, strict=True)
    assert found["spec"]["type"] == "LoadBalancer"
    assert found["spec"]["loadBalancerSourceRanges"] == ["10.0.0.0/8"]
    assert found["metadata"]["annotations"] == {"internal": "true"}
    assert found["metadata"]["labels"]["team"] == "a"


def test_probes_are_timed_replaced_and_switched_off() -> None:
    own = {"exec": {"command": ["true"]}, "periodSeconds": 60}
    values = {
        "webserver": {"startupProbe": {"failureThreshold": 500}, "livenessProbe": None},
        "codeServer": {"livenessProbe": own},
    }
    pods = templates(rendered_with(values))
    webserver, code = (pods[name]["spec"]["containers"][0] for name in ("webserver", "code"))

    assert webserver["startupProbe"]["failureThreshold"] == 500
    assert webserver["startupProbe"]["httpGet"]["path"] == "/server_info"
    assert "livenessProbe" not in webserver
    assert code["livenessProbe"].items() >= own.items()
    assert "grpc" not in code["livenessProbe"]


def test_the_embedding_server_is_scaled_instead_of_counted() -> None:
    on = {"enabled": True, "minReplicas": 2, "maxReplicas": 6}
    manifests = rendered_with({"embeddingServer": {"autoscaling": on}})
    scaler = one(manifests, "HorizontalPodAutoscaler", "-embeddings")

    kubernetes_validate.validate(scaler, NEWEST, strict=True)
    deployment = one(manifests, "Deployment", "-embeddings")
    assert "replicas" not in deployment["spec"]
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]


def test_what_restarts_workloads_finds_its_annotation_on_each() -> None:
    annotation = {"reloader.stakater.com/auto": "true"}
    manifests = rendered_with({"workloadAnnotations": annotation})
    workloads = [m for m in manifests if m["kind"] in ("Deployment", "StatefulSet")]

    assert len(workloads) == 6
    assert all(m["metadata"]["annotations"] == annotation for m in workloads)


def test_helm_test_reaches_the_ui_that_nobody_else_does() -> None:
    manifests = rendered_with({"networkPolicy": {"webserverFrom": []}})
    [rule] = one(manifests, "NetworkPolicy", "-webserver")["spec"]["ingress"]
    [peer] = rule["from"]
    labels = templates(manifests)["test"]["metadata"]["labels"]

    assert peer["podSelector"]["matchLabels"].items() <= labels.items()
    [expression] = peer["podSelector"]["matchExpressions"]
    assert labels[expression["key"]] in expression["values"]
    assert "namespaceSelector" not in peer


def test_every_part_of_values_yaml_says_what_it_is() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    bare = [
        line
        for above, line in zip(["", *lines], lines, strict=False)
        if line
        and not line.startswith((" ", "#"))
        and "#" not in line
        and not above.startswith("#")
    ]
    assert bare == []
