"""The dashboard, the alert rules and the exporter of the chart: they refer to what there is."""

import json
import re
from collections.abc import Iterator
from inspect import getsource
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from rag_assets.cli.reports.metrics import metrics as command
from rag_assets.core.models.spec import Backend, ModelSpec
from rag_assets.core.reports.metrics import METRICS, Kind, Measured
from rag_assets.instance.reports.metrics import Exporter
from rag_assets.serving import searcher
from rag_assets.serving.releases import Release
from rag_assets.serving.service.access_log import REJECTIONS
from rag_assets.serving.service.metrics import ServiceMetrics
from rag_assets_tests.kubernetes.helm import (
    CHART,
    PROJECT,
    Manifest,
    example,
    helm,
    one,
    render,
    rendered,
)
from rag_assets_tests.support.promtool import promtool

DASHBOARD = json.loads((CHART / "files" / "dashboard.json").read_text())
RULES = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
OF_TARGETS = {"namespace", "job", "instance"}  # labels that Prometheus adds
GRID = 24  # columns of a dashboard
WITHOUT_DATA = ("row",)  # types of panels


def unread() -> Measured:
    """Nothing is read where only names matter."""
    raise AssertionError


def searched() -> ServiceMetrics:
    """Return the metrics of a search service of which each has been measured."""
    found = ServiceMetrics()
    spec = ModelSpec(key="m-v1", backend=Backend.WORDLLAMA, name="m", dimension=256)
    found.watch(lambda: 0, lambda: Release("c", spec))
    found.answered("/v1/search", "POST", 200)
    found.took("total", 0.1)
    found.encoded(1)
    found.rejected(REJECTIONS[0])
    found.fell_back("timeout")
    return found


def of_the_search_service() -> dict[str, set[str]]:
    """Return the series that the search service exposes → their labels."""
    text = searched().exposition().decode()
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return {sample.name: {*sample.labels} for family in families for sample in family.samples}


def series() -> dict[str, set[str]]:
    """Return the series that the exporter and the search service expose → their labels."""
    own = [metric.name for metric in Exporter(unread, interval=1).collect()]
    known: dict[str, tuple[Kind, tuple[str, ...]]] = dict.fromkeys(own, (Kind.GAUGE, ()))
    known |= {metric.name: (metric.kind, metric.labels) for metric in METRICS}
    found = of_the_search_service()
    for name, (kind, labels) in known.items():
        if kind is Kind.HISTOGRAM:
            found[f"{name}_bucket"] = {*labels, "le"}
            found |= {f"{name}_{part}": set(labels) for part in ("sum", "count")}
        else:
            found[name] = set(labels)
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] not in WITHOUT_DATA]


def expressions() -> Iterator[tuple[str, str]]:
    """Yield where each expression is, and the expression, with the dashboard's variables filled."""
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            filled = target["expr"].replace("$__rate_interval", "2m").replace("$namespace", "rag")
            yield f"{panel['title']} {target['refId']}", filled


every_expression = pytest.mark.parametrize(
    "expression", [pytest.param(text, id=place) for place, text in expressions()]
)


@every_expression
def test_an_expression_reads_series_that_are_exposed_by_labels_that_they_have(
    expression: str,
) -> None:
    known = series()
    names = set(re.findall(r"\brag_assets_\w+", expression))
    grouped = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", expression)
    selected = re.findall(r"(\w+)\s*[=!]~?\s*\"", expression)
    labels = {label for group in grouped for label in re.findall(r"\w+", group)} | {*selected}

    assert names
    assert names <= known.keys()
    assert labels <= OF_TARGETS.union(*(known[name] for name in names))


def test_expressions_select_by_reasons_and_stages_that_the_search_service_has() -> None:
    texts = " ".join(text for _, text in expressions())
    assert set(re.findall(r'reason="(\w+)"', texts)) <= {*REJECTIONS}
    stages = set(re.findall(r'measured\("(\w+)"\)', getsource(searcher)))
    assert set(re.findall(r'stage!?="(\w+)"', texts)) <= {*stages}
    assert "total" in stages


def test_prometheus_parses_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"a:{n}", "expr": text} for n, (_, text) in enumerate(expressions())]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))

    result = promtool("check", "rules", str(path))

    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(rules)} rules found" in result.stdout


def test_each_metric_is_on_the_dashboard_or_in_a_rule() -> None:
    read = set(re.findall(r"\brag_assets_\w+", " ".join(text for _, text in expressions())))
    served = {re.sub(r"_(bucket|sum|count)$", "", name) for name in of_the_search_service()}
    known = served.union(metric.name for metric in METRICS)
    unread = {n for n in known if not {n, f"{n}_bucket"} & read}

    assert unread == set()


def test_the_page_says_what_each_metric_means_and_what_to_do_about_each_alert() -> None:
    page = (PROJECT / "docs" / "metrics.md").read_text()
    own = list(Exporter(unread, interval=1).collect())
    rows = [f"| `{one.name}` | {', '.join(one.labels)} | {one.help} |" for one in METRICS]
    rows += [f"| `{metric.name}` | | {metric.documentation} |" for metric in own]
    shown = {line.replace("|  |", "| |") for line in page.splitlines()}

    assert {row.replace("|  |", "| |") for row in rows} == {
        line for line in shown if line.startswith("| `rag_assets_")
    }
    described = re.findall(r"`(RagAssets\w+)`", page.partition("## Alerts")[2])
    assert set(described) == {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}


def test_the_dashboard_is_one_of_grafana() -> None:
    assert DASHBOARD["schemaVersion"] >= 39
    assert {"uid", "title", "time", "refresh", "templating", "annotations"} <= DASHBOARD.keys()
    titles = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert titles == ["Serving", "Ingestion", "Models"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert variables["namespace"]["allValue"] == ".*"  # also where there is no such label


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_a_panel_has_a_place_a_source_and_targets(panel: dict[str, Any]) -> None:
    place = panel["gridPos"]
    assert place["x"] >= 0
    assert place["x"] + place["w"] <= GRID
    assert min(place["w"], place["h"]) > 0
    assert panel["type"] in ("timeseries", "stat", "table")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    letters = [target["refId"] for target in panel["targets"]]
    assert len(set(letters)) == len(letters) > 0
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert 'namespace=~"$namespace"' in target["expr"]
        grouped = {name for by in re.findall(r"by \(([^)]*)\)", target["expr"])
                   for name in re.findall(r"\w+", by)}  # fmt: skip
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= {*grouped, "instance"}


def test_no_panel_is_on_top_of_another() -> None:
    def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
        return all(
            one[at] < other[at] + other[size] and other[at] < one[at] + one[size]
            for at, size in (("x", "w"), ("y", "h"))
        )

    places = [(panel["title"], panel["gridPos"]) for panel in DASHBOARD["panels"]]
    over = [(a, b) for (a, one), (b, other) in combinations(places, 2) if overlap(one, other)]
    assert over == []


@pytest.fixture
def manifests() -> tuple[Manifest, ...]:
    """The manifests of the example that has it all."""
    return rendered("cpu-only")


def test_grafana_and_prometheus_get_what_is_in_the_files(manifests: tuple[Manifest, ...]) -> None:
    dashboard = one(manifests, "ConfigMap", "-dashboard")
    rules = one(manifests, "PrometheusRule")

    assert json.loads(dashboard["data"]["rag-assets.json"]) == DASHBOARD
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert rules["spec"] == RULES
    assert rules["metadata"]["labels"]["release"] == "prometheus"


def test_prometheus_finds_and_reaches_the_exporter(manifests: tuple[Manifest, ...]) -> None:
    [container] = pod(manifests)["containers"]
    monitor = one(manifests, "ServiceMonitor", "-metrics")["spec"]
    service = one(manifests, "Service", "-metrics")
    policy = one(manifests, "NetworkPolicy", "-metrics")["spec"]

    program, name, *arguments = container["args"]
    options = command.make_context(name, arguments).params
    [port] = container["ports"]
    assert (program, name, options["host"]) == ("rag-assets", command.name, "0.0.0.0")
    assert options["port"] == port["containerPort"]
    selector = monitor["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert policy["ingress"][0]["ports"] == [{"port": port["name"]}]
    assert container["readinessProbe"]["httpGet"]["port"] == port["name"]


def test_the_exporter_has_the_settings_and_secrets_and_no_token(
    manifests: tuple[Manifest, ...],
) -> None:
    spec, code = pod(manifests), one(manifests, "Deployment", "-code")["spec"]["template"]["spec"]
    for field in ("serviceAccountName", "automountServiceAccountToken", "volumes"):
        assert spec[field] == code[field]
    assert spec["containers"][0]["envFrom"] == code["containers"][0]["envFrom"]


def pod(manifests: tuple[Manifest, ...] | list[Manifest]) -> dict[str, Any]:
    spec: dict[str, Any] = one(manifests, "Deployment", "-metrics")["spec"]["template"]["spec"]
    return spec


def test_nothing_of_it_is_installed_unless_asked_for(manifests: tuple[Manifest, ...]) -> None:
    names = {f"{m['kind']} {m['metadata']['name']}" for m in rendered("gpu")}
    assert not [name for name in names if "metrics" in name or "Prom" in name or "dash" in name]
    assert one(manifests, "Deployment", "-metrics")["spec"]["replicas"] == 1


def test_dashboard_and_rules_need_no_exporter() -> None:
    only = {"dashboard": {"enabled": True}, "rules": {"enabled": True}}
    manifests = render(example("gpu") | {"metrics": only})

    assert not [m for m in manifests if m["metadata"]["name"].endswith("-metrics")]
    assert one(manifests, "PrometheusRule")["spec"] == RULES
    assert one(manifests, "ConfigMap", "-dashboard")


def test_a_monitor_of_no_exporter_is_refused() -> None:
    values = example("gpu") | {"metrics": {"serviceMonitor": {"enabled": True}}}

    result = helm("template", "docs", str(CHART), values=values)

    assert result.returncode != 0
    assert "metrics" in result.stderr
