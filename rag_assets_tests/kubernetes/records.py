"""Nodes, pods and Jobs as the stand-in keeps them."""

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rag_assets_tests.kubernetes.objects import Object

if TYPE_CHECKING:
    from rag_assets_tests.kubernetes.probes import Prober

LIVE_PHASES = ("Pending", "Running")


@dataclass
class Node:
    """A machine; `allocatable` counts its extended resources."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: list[dict[str, str]] = field(default_factory=list)
    allocatable: dict[str, int] = field(default_factory=dict)


@dataclass
class Pod:
    """A pod, its containers' processes and what is to become of it."""

    body: Object
    restarts: bool = False  # a deployment's: its containers are started again
    deployment: str = ""
    template: str = ""  # identifies that of its deployment
    ready: bool = False
    prober: "Prober | None" = None
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ended_by: str = ""  # why the next exit will have happened
    kill_at: float | None = None
    try_at: float = 0.0
    message: str = ""

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def spec(self) -> Object:
        return dict(self.body["spec"])

    @property
    def status(self) -> Object:
        status: Object = self.body["status"]
        return status

    @property
    def job(self) -> str:
        return str(self.body["metadata"]["labels"].get("job-name", ""))

    @property
    def deleting(self) -> bool:
        return "deletionTimestamp" in self.body["metadata"]


@dataclass
class Job:
    """A Job; `lost` counts its pods that are gone without having succeeded."""

    body: Object
    started: float = field(default_factory=time.time)
    finished_at: float = 0.0
    lost: int = 0

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def finished(self) -> str:
        """`Complete`, `Failed`, or nothing."""
        conditions = self.body["status"].get("conditions", [])
        return str(conditions[0]["type"]) if conditions else ""


@dataclass
class State:
    """What there is in one namespace."""

    namespace: str
    nodes: dict[str, Node]
    pods: dict[str, Pod] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    refuse: Callable[[Object], str] = field(default=lambda _: "")  # why a pod is not admitted

    def pods_of(self, job: str) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.job == job]

    def live_on(self, node: str) -> list[Pod]:
        pods = (pod for pod in self.pods.values() if pod.spec.get("nodeName") == node)
        return [pod for pod in pods if pod.status["phase"] in LIVE_PHASES]

    def note(self, kind: str, name: str, reason: str, message: str) -> None:
        """Add an event."""
        metadata = {"name": f"{name}.{len(self.events)}", "namespace": self.namespace}
        involved = {"kind": kind, "name": name, "namespace": self.namespace}
        event = {"apiVersion": "v1", "kind": "Event", "metadata": metadata, "count": 1}
        event |= {"involvedObject": involved, "reason": reason, "message": message}
        event |= {"type": "Warning" if reason.startswith("Failed") else "Normal"}
        self.events.append(event | {"firstTimestamp": now(), "lastTimestamp": now()})


def container_status(container: Object, state: Object) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": container["image"],
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
