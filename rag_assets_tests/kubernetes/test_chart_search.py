"""The chart's search service: how it is started, reached, stopped, scaled, and what it may do."""

from typing import Any

import pytest

from rag_assets.cli.serving.serve import SHUTDOWN_SECONDS, serve
from rag_assets.core.models.reranker_spec import RerankerSpec
from rag_assets_tests.kubernetes.helm import (
    CHART,
    EXAMPLES,
    Manifest,
    example,
    helm,
    one,
    overlaid,
    render,
    rendered,
)
from rag_assets_tests.kubernetes.test_chart import SCHEMA

NAME = "-search-service"
TOKENS = {"tokens": {"existingSecret": "given"}}
ISSUER = {"serve_issuer": "https://login.example.org", "serve_audience": "rag-assets"}
Manifests = tuple[Manifest, ...] | list[Manifest]


def searching(search: dict[str, Any] | None = None, **others: Any) -> list[Manifest]:
    """Return the manifests of a release with the service on CPUs, and these values."""
    values = example("cpu-only")
    values["search"] = {"enabled": True, **TOKENS, **(search or {})}
    return render(overlaid(values, others))


def pod(manifests: Manifests) -> dict[str, Any]:
    spec: dict[str, Any] = one(manifests, "Deployment", NAME)["spec"]["template"]["spec"]
    return spec


def kinds(manifests: Manifests) -> set[str]:
    return {m["kind"] for m in manifests if m["metadata"]["name"].endswith(NAME)}


def environment(spec: dict[str, Any]) -> dict[str, Any]:
    return {one["name"]: one.get("value") for one in spec["containers"][0]["env"]}


def refusal(change: dict[str, Any]) -> str:
    values = overlaid(example("cpu-only"), change)
    result = helm("template", "docs", str(CHART), values=values)
    assert result.returncode != 0
    return result.stderr


@pytest.mark.parametrize("name", EXAMPLES)
def test_its_command_is_one_of_ours_and_listens_where_it_is_probed_and_reached(name: str) -> None:
    [container] = pod(rendered(name))["containers"]
    service = one(rendered(name), "Service", NAME)

    program, command, *arguments = container["args"]
    options = serve.make_context(command, arguments).params
    [port] = container["ports"]
    assert (program, command, options["host"]) == ("rag-assets", serve.name, "0.0.0.0")
    assert options["port"] == port["containerPort"]
    assert service["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": port["name"]}]
    probes = {key: value["httpGet"] for key, value in container.items() if key.endswith("Probe")}
    assert {get["port"] for get in probes.values()} == {port["name"]}
    assert {key: get["path"] for key, get in probes.items()} == {
        "startupProbe": "/healthz",  # one that waits for a live model is not restarted
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz?before_first=true",
    }


@pytest.mark.parametrize("seconds", [10, 60])
def test_a_pod_is_killed_only_after_it_has_drained_and_finished(seconds: int) -> None:
    spec = pod(searching({"drainSeconds": seconds}))

    [container] = spec["containers"]
    options = serve.make_context("serve", container["args"][2:]).params
    assert options["drain_seconds"] == seconds
    assert spec["terminationGracePeriodSeconds"] > seconds + SHUTDOWN_SECONDS
    readiness = container["readinessProbe"]
    noticed = readiness["failureThreshold"] * (
        readiness["periodSeconds"] + readiness["timeoutSeconds"]
    )
    assert noticed <= seconds


def test_a_new_pod_is_ready_before_an_old_one_goes() -> None:
    strategy = one(searching(), "Deployment", NAME)["spec"]["strategy"]
    assert strategy["type"] == "RollingUpdate"
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


def test_its_tokens_are_mounted_so_that_they_change_with_the_secret() -> None:
    spec = pod(searching())
    [mount] = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "tokens"]
    [volume] = [v["secret"] for v in spec["volumes"] if v["name"] == "tokens"]

    file = environment(spec)["RAG_ASSETS_SERVE_TOKENS_FILE"]
    assert volume["secretName"] == "given"
    assert file == f"{mount['mountPath']}/{volume['items'][0]['path']}"
    assert mount["readOnly"] is True
    assert "subPath" not in mount  # the kubelet updates no file that is mounted by one


def test_with_an_issuer_it_needs_no_tokens() -> None:
    manifests = searching({"tokens": {"existingSecret": ""}}, settings=ISSUER)
    spec, settings = pod(manifests), one(manifests, "ConfigMap", "-settings")["data"]

    assert "RAG_ASSETS_SERVE_TOKENS_FILE" not in environment(spec)
    assert "secret" not in {kind for volume in spec["volumes"] for kind in volume}
    assert settings["RAG_ASSETS_SERVE_ISSUER"] == ISSUER["serve_issuer"]


def test_no_other_pod_has_its_tokens() -> None:
    for manifest in searching():
        if "template" in manifest.get("spec", {}) and not manifest["metadata"]["name"].endswith(
            NAME
        ):
            assert "given" not in str(manifest)


def test_its_account_is_its_own_and_may_do_nothing_in_the_cluster() -> None:
    annotations = {"serviceAccount": {"annotations": {"role": "reads"}}}
    manifests = searching(annotations, serviceAccount={"annotations": {"role": "writes"}})

    spec, account = pod(manifests), one(manifests, "ServiceAccount", NAME)
    assert spec["serviceAccountName"] == account["metadata"]["name"]
    assert spec["automountServiceAccountToken"] is False
    assert account["automountServiceAccountToken"] is False
    assert account["metadata"]["annotations"] == {"role": "reads"}
    bound = [s["name"] for m in manifests if m["kind"] == "RoleBinding" for s in m["subjects"]]
    assert account["metadata"]["name"] not in bound
    same = one(searching(serviceAccount={"annotations": {"role": "w"}}), "ServiceAccount", NAME)
    assert same["metadata"]["annotations"] == {"role": "w"}


def test_its_secrets_can_be_others_than_those_of_the_runs() -> None:
    def secrets(manifests: Manifests) -> list[str]:
        sources = pod(manifests)["containers"][0]["envFrom"]
        return [s["secretRef"]["name"] for s in sources if "secretRef" in s]

    assert secrets(searching()) == ["rag-assets"]
    assert secrets(searching({"credentials": {"existingSecret": "read-only"}})) == ["read-only"]


def test_it_is_scaled_instead_of_counted() -> None:
    on = {"enabled": True, "minReplicas": 3, "maxReplicas": 9, "cpuPercent": 60}
    manifests = searching({"autoscaling": on})

    deployment = one(manifests, "Deployment", NAME)
    scaler = one(manifests, "HorizontalPodAutoscaler")["spec"]
    assert "replicas" not in deployment["spec"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (3, 9)
    target = scaler["metrics"][0]["resource"]
    assert target == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}
    assert "PodDisruptionBudget" in kinds(manifests)
    own = [{"type": "Pods", "pods": {"metric": {"name": "rag_assets_in_flight_requests"}}}]
    other = one(searching({"autoscaling": on | {"metrics": own}}), "HorizontalPodAutoscaler")
    assert other["spec"]["metrics"] == own


def test_several_pods_have_a_budget_and_one_has_none() -> None:
    assert "PodDisruptionBudget" in kinds(searching())
    assert "PodDisruptionBudget" not in kinds(searching({"replicas": 1}))


def test_its_pods_are_spread_over_nodes_unless_the_values_say_otherwise() -> None:
    labels = one(searching(), "Deployment", NAME)["spec"]["selector"]["matchLabels"]
    [spread] = pod(searching())["topologySpreadConstraints"]
    [zones] = pod(rendered("spot-karpenter"))["topologySpreadConstraints"]

    assert spread["labelSelector"]["matchLabels"] == labels
    assert zones["topologyKey"] == "topology.kubernetes.io/zone"
    assert zones["labelSelector"]["matchLabels"] == labels
    assert "topologySpreadConstraints" not in pod(searching({"topologySpreadConstraints": []}))


def test_applications_and_prometheus_reach_it_and_nobody_else() -> None:
    peers = {
        name: [{"namespaceSelector": {"matchLabels": {"name": name}}}]
        for name in ("searchFrom", "metricsFrom")
    }
    [rule] = one(searching(networkPolicy=peers), "NetworkPolicy", NAME)["spec"]["ingress"]
    nobody = searching(networkPolicy={"searchFrom": [], "metricsFrom": []})

    assert rule["from"] == [*peers["searchFrom"], *peers["metricsFrom"]]
    assert rule["ports"] == [{"port": "http"}]
    assert "NetworkPolicy" not in kinds(nobody)  # that of all pods lets nobody in
    assert "NetworkPolicy" not in kinds(searching(networkPolicy={"enabled": False}))


def test_prometheus_finds_it() -> None:
    manifests = rendered("cpu-only")
    monitor = one(manifests, "ServiceMonitor", NAME)
    service = one(manifests, "Service", NAME)

    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    [endpoint] = monitor["spec"]["endpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_its_ingress_is_another_than_the_uis() -> None:
    ingresses = {m["metadata"]["name"]: m for m in rendered("cpu-only") if m["kind"] == "Ingress"}

    backends = {
        manifest["spec"]["tls"][0]["hosts"][0]: path["backend"]["service"]["name"]
        for manifest in ingresses.values()
        for path in manifest["spec"]["rules"][0]["http"]["paths"]
    }
    assert backends == {
        "dagster.example.org": "docs-rag-assets-webserver",
        "search.example.org": "docs-rag-assets-search-service",
    }


def test_links_lead_to_the_ingresses_unless_the_values_say_otherwise() -> None:
    def links(manifests: Manifests) -> list[str | None]:
        settings: dict[str, str] = one(manifests, "ConfigMap", "-settings")["data"]
        return [settings.get(f"RAG_ASSETS_{name}_URL") for name in ("WEBSERVER", "SEARCH")]

    ours = ["https://dagster.example.org", "https://search.example.org"]
    assert links(rendered("cpu-only")) == ours
    assert links(rendered("gpu")) == [None, None]
    own = {"webserver_url": "https://ui.example.org", "search_url": "https://s.example.org"}
    assert links(render(overlaid(example("cpu-only"), {"settings": own}))) == [*own.values()]


def test_the_examples_encode_on_a_gpu_a_slice_of_one_and_cpus() -> None:
    limits = {
        name: pod(rendered(name))["containers"][0]["resources"]["limits"] for name in EXAMPLES
    }
    devices = {name: {key for key in found if "/" in key} for name, found in limits.items()}
    assert devices == {
        "cpu-only": set(),
        "gpu": {"nvidia.com/gpu"},
        "mig": {"nvidia.com/mig-1g.10gb"},
        "spot-karpenter": set(),
    }


def test_it_counts_the_cpus_it_asked_for() -> None:
    [threads] = [
        e for e in pod(searching())["containers"][0]["env"] if e["name"].endswith("THREADS")
    ]
    assert threads["valueFrom"] == {"resourceFieldRef": {"resource": "requests.cpu"}}


def test_rerankers_are_in_the_models_file() -> None:
    spec = {"backend": "tei", "name": "r", "endpoint": "http://reranker:8080"}
    manifests = searching(rerankers={"r-v1": spec})

    assert (
        "endpoint: http://reranker:8080"
        in one(manifests, "ConfigMap", "-models")["data"]["models.yaml"]
    )
    schema = SCHEMA["properties"]["rerankers"]["additionalProperties"]["properties"]
    assert schema.keys() == RerankerSpec.model_fields.keys() - {"key"}


def test_nothing_of_it_is_installed_unless_asked_for() -> None:
    values = example("cpu-only")
    del values["search"]
    assert kinds(render(values)) == set()


REFUSED = {
    "no authentication": ({"search": {"tokens": {"existingSecret": ""}}}, "tokens.existingSecret"),
    "an issuer of tokens for anybody": (
        {"settings": {"serve_issuer": "https://login.example.org"}},
        "serve_audience",
    ),
    "tokens as a value": ({"settings": {"serve_tokens": "[]"}}, "serve_tokens"),
    "a key as a value": ({"settings": {"rerank_api_key": "k"}}, "rerank_api_key"),
    "a moving image": ({"search": {"image": "registry.example/rag-assets:latest"}}, "image"),
    "an ingress without a host": ({"search": {"ingress": {"host": ""}}}, "host"),
    "no time to drain": ({"search": {"drainSeconds": 0}}, "drainSeconds"),
    "rerankers without models": (
        {"models": None, "rerankers": {"r-v1": {"backend": "tei", "name": "r"}}},
        "models",
    ),
    "an unknown value": ({"search": {"replica": 2}}, "replica"),
}


@pytest.mark.parametrize(("change", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_wrong_is_refused_and_named(change: dict[str, Any], says: str) -> None:
    assert says in refusal(change)
