"""Runs Helm on the chart, offline. `make .helm/helm` fetches it."""

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from rag_assets_tests.support.requirements import missing

PROJECT = Path(__file__).parents[2]
CHART = PROJECT / "helm" / "rag-assets"
EXAMPLES = {
    path.stem: path
    for path in sorted((PROJECT / "helm" / "examples").glob("*.yaml"))
    if path.stem != "milvus-values"  # of another chart
}

Manifest = dict[str, Any]


def required_helm() -> str:
    """Return where Helm is; without it the test is skipped, or fails where CI runs."""
    found = PROJECT / ".helm" / "helm"
    path = str(found) if found.exists() else shutil.which("helm")
    if path is None:
        missing("There is no Helm; `make .helm/helm` fetches it.")
    return path


def helm(*arguments: str, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run Helm with values on its standard input."""
    command = [required_helm(), *arguments, "--values", "-"]
    given = yaml.safe_dump(dict(values))
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def render(
    values: Mapping[str, Any], release: str = "docs", namespace: str = "rag"
) -> list[Manifest]:
    """Return the chart's manifests; a failure shows Helm's own words."""
    result = helm("template", release, str(CHART), "--namespace", namespace, values=values)
    assert result.returncode == 0, result.stderr
    return [manifest for manifest in yaml.safe_load_all(result.stdout) if manifest]


def example(name: str) -> dict[str, Any]:
    """Return the values of an example."""
    values: dict[str, Any] = yaml.safe_load(EXAMPLES[name].read_text())
    return values


@cache
def rendered(name: str) -> tuple[Manifest, ...]:
    """Return the manifests of an example, rendered once."""
    return tuple(render(example(name)))


def one(manifests: tuple[Manifest, ...] | list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """Return the only manifest of a kind whose name ends so."""
    [found] = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"].endswith(suffix)]
    return found


def overlaid(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return values with others over them, as Helm merges files of values."""
    both = {k: overlaid(under[k], v) for k, v in over.items() if isinstance(v, dict) and k in under}
    return {**under, **over, **both}
