"""The kubelet: runs each container as a local process, with the environment that its pod gives."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import rag_assets
from rag_assets_tests.kubernetes.objects import Object, cpus, devices

PROJECT = Path(rag_assets.__file__).parents[1]
IMAGE_ENVIRONMENT = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": str(PROJECT),
    "HOME": "/tmp",
}
"""What the image gives: this interpreter, its packages and our code; nothing of the caller's."""


class NotStartedError(Exception):
    """A container that cannot be started now: `reason` as in its waiting state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class Kubelet:
    """Starts containers; the stores are the cluster's own and may change."""

    folder: Path
    image: str
    config_maps: Mapping[str, Mapping[str, str]]
    secrets: Mapping[str, Mapping[str, str]]

    def start(self, pod: Object, container: Object) -> subprocess.Popen[bytes]:
        """Start a container.

        Raises:
            NotStartedError: Its image, or something that it refers to, is not there.
        """
        if container["image"] != self.image:
            raise NotStartedError("ErrImagePull", f'image "{container["image"]}" not found')
        environment = self.environment(pod, container)
        words = [*container.get("command", []), *container.get("args", [])]
        words = [re.sub(r"\$\((\w+)\)", lambda m: environment.get(m[1], m[0]), w) for w in words]
        with self.log(pod["metadata"]["name"], container["name"]).open("ab") as output:
            return subprocess.Popen(
                self.command(pod, container, words),
                env=environment,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, pod: str, container: str) -> Path:
        return self.folder / f"{pod}.{container}.log"

    def command(self, pod: Object, container: Object, words: list[str]) -> list[str]:  # noqa: ARG002
        """Return the command line of the process that runs a container's words."""
        return words

    def environment(self, pod: Object, container: Object) -> dict[str, str]:
        """Return a container's variables: the image's, then those of its pod."""
        found = IMAGE_ENVIRONMENT | {"HOSTNAME": pod["metadata"]["name"]}
        if devices(pod["spec"]):
            found["NVIDIA_VISIBLE_DEVICES"] = "stand-in"  # what NVIDIA's runtime sets
        for source in container.get("envFrom", []):
            for kind in ("configMap", "secret"):
                if reference := source.get(f"{kind}Ref"):
                    found |= self.stored(kind, reference)
        for variable in container.get("env", []):
            found[variable["name"]] = self._value(pod, container, variable)
        return found

    def _value(self, pod: Object, container: Object, variable: Object) -> str:
        origin = variable.get("valueFrom")
        if not origin:
            return str(variable.get("value") or "")
        if path := origin.get("fieldRef", {}).get("fieldPath"):
            section, name = path.split(".")
            return str(pod[section][name])
        if resource := origin.get("resourceFieldRef", {}).get("resource"):
            section, name = resource.split(".")
            return str(ceil(cpus(container["resources"][section][name])))
        kind = "secret" if "secretKeyRef" in origin else "configMap"
        reference = origin[f"{kind}KeyRef"]
        stored = self.stored(kind, reference)
        if reference["key"] not in stored:
            message = f'couldn\'t find key {reference["key"]} in {kind} "{reference["name"]}"'
            raise NotStartedError("CreateContainerConfigError", message)
        return stored[reference["key"]]

    def stored(self, kind: str, reference: Object) -> Mapping[str, str]:
        """Return the content of a ConfigMap or Secret that a pod refers to."""
        store = self.secrets if kind == "secret" else self.config_maps
        if reference["name"] in store:
            return store[reference["name"]]
        if reference.get("optional"):
            return {}
        message = f'{kind.lower()} "{reference["name"]}" not found'
        raise NotStartedError("CreateContainerConfigError", message)


def handles(process: subprocess.Popen[bytes], number: signal.Signals) -> bool:
    """Whether a process has a handler for a signal; the first one of its kind ignores others."""
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except FileNotFoundError:
        return False
    caught = int(next(line for line in status.splitlines() if line.startswith("SigCgt"))[7:], 16)
    return bool(caught >> (number - 1) & 1)


def send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to all processes of a container."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
