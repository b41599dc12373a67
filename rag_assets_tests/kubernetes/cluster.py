"""The cluster's state, and what works on it: scheduler, Job controller, deployments."""

import copy
import secrets
import signal
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from rag_assets_tests.kubernetes.api import ApiError, ApiServer, Request
from rag_assets_tests.kubernetes.kubelet import Image, Kubelet, NotStartedError, signal_all, stop
from rag_assets_tests.kubernetes.objects import (
    Object,
    devices,
    faults,
    fields_match,
    labels_match,
    restricted_faults,
    tolerates,
)

TICK = 0.1
TRY_AGAIN = 1.0  # seconds until a container that could not be started is tried again
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
    restarts: bool = False
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    ended_by: str = ""  # why the next exit will have happened
    kill_at: float | None = None
    try_at: float = 0.0
    said: str = ""

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
    lost: int = 0

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def finished(self) -> str:
        """`Complete`, `Failed`, or nothing."""
        conditions = self.body["status"].get("conditions", [])
        return str(conditions[0]["type"]) if conditions else ""


class Cluster:
    """One namespace of a cluster, with its API on loopback.

    Attributes:
        secrets: By name; tests add them, as the chart makes none.
        roles: Rules by Role, which a test may take away.
        refusals: Status codes for the next requests, whatever they are.
        unknown: What was asked for and is not served.
        asked: Every request that was understood.
        launched: Every Job that was created through the API, as it was sent.
    """

    def __init__(self, folder: Path, image: str, nodes: Iterable[Node], namespace: str) -> None:
        self.namespace = namespace
        self.nodes = {node.name: node for node in nodes}
        self.config_maps: dict[str, dict[str, str]] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.hosts: dict[str, str] = {}
        self.roles: dict[str, list[Object]] = {}
        self.objects: dict[str, dict[str, Object]] = {}  # by kind and name
        self.events: list[Object] = []
        self.refusals: list[int] = []
        self.unknown: list[str] = []
        self.asked: list[Request] = []
        self.launched: list[Object] = []
        self.lock = threading.RLock()
        self._pods: dict[str, Pod] = {}
        self._jobs: dict[str, Job] = {}
        self._frozen: list[Pod] = []
        self._tokens: dict[str, str] = {}
        self._stopping = threading.Event()
        self._folder = folder
        self._api = ApiServer(self, folder)
        images = {image: Image.of_this_interpreter()}
        self.kubelet = Kubelet(
            folder, images, self.config_maps, self.secrets, self.hosts, self._api.port
        )
        self._loop = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator["Cluster"]:
        """Serve and work; at the end every process is killed."""
        self._api.start()
        self._loop.start()
        try:
            yield self
        finally:
            self._stopping.set()
            self._loop.join()
            for pod in [*self._pods.values(), *self._frozen]:
                for process in pod.processes.values():
                    signal_all(process, signal.SIGKILL)
                    process.wait()
            self._api.stop()

    # What the API serves

    def account_of(self, token: str) -> str:
        return self._tokens.get(token, "")

    def rules_of(self, account: str) -> list[Object]:
        return [
            rule
            for binding in self.objects.get("RoleBinding", {}).values()
            if any(subject["name"] == account for subject in binding["subjects"])
            for rule in self.roles[binding["roleRef"]["name"]]
        ]

    def create_job(self, body: Object) -> Object:
        if body["metadata"]["name"] in self._jobs:
            raise ApiError(409, "AlreadyExists", f"{body['metadata']['name']} already exists")
        self.launched.append(copy.deepcopy(body))
        return self.add_job(body).body

    def job(self, name: str) -> Job:
        return _found(self._jobs, "jobs.batch", name)

    def pod(self, name: str) -> Pod:
        return _found(self._pods, "pods", name)

    def listing(self, kind: str, options: dict[str, str]) -> Object:
        bodies = {
            "Job": lambda: [job.body for job in self._jobs.values()],
            "Pod": lambda: [pod.body for pod in self._pods.values()],
            "Event": lambda: self.events,
        }[kind]()
        items = [
            body
            for body in bodies
            if labels_match(options.get("labelSelector", ""), body["metadata"].get("labels") or {})
            and fields_match(options.get("fieldSelector", ""), body)
        ]
        version = "batch/v1" if kind == "Job" else "v1"
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": items}

    def log(self, name: str, options: dict[str, str]) -> bytes:
        pod = self.pod(name)
        container = options.get("container") or pod.spec["containers"][0]["name"]
        path = self.kubelet.log(pod.body, container)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return b"".join(lines[-int(options.get("tailLines", len(lines) or 1)) :])

    def delete_job(self, name: str, policy: str) -> Object:
        self.job(name)
        del self._jobs[name]
        if policy in ("Background", "Foreground"):  # without one, batch/v1 leaves the pods
            for pod in self.pods_of(name):
                self._delete(pod, None)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def delete_pod(self, name: str, grace: float | None) -> Object:
        pod = self.pod(name)
        self._delete(pod, grace)
        return pod.body

    # What tests and the installation do

    def apply(self, body: Object) -> None:
        """Take an object of a chart; refuses what an API server would refuse."""
        kind, name = body["kind"], body["metadata"]["name"]
        if body["apiVersion"] != "monitoring.coreos.com/v1" and (found := faults(body)):
            raise ApiError(422, "Invalid", f"{kind} {name} is invalid: {'; '.join(found)}")
        with self.lock:
            self.objects.setdefault(kind, {})[name] = body
            if kind == "ConfigMap":
                self.config_maps[name] = body["data"]
            elif kind == "Role":
                self.roles[name] = body["rules"]
            elif kind == "Service":
                self.hosts[name] = "127.0.0.1"
            elif kind == "Job":
                self.add_job(body)
            elif kind == "Pod":
                self._new_pod(name, body)
            elif kind == "Deployment":
                for _ in range(body["spec"]["replicas"]):
                    pod = self._new_pod(f"{name}-{secrets.token_hex(3)}", body["spec"]["template"])
                    pod.restarts = True

    def trigger(self, cron_job: str) -> str:
        """Start a CronJob now; return the Job's name."""
        body = self.objects["CronJob"][cron_job]["spec"]["jobTemplate"]
        name = f"{cron_job}-{secrets.token_hex(3)}"
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}}
        with self.lock:
            self.add_job(copy.deepcopy(job | {"spec": body["spec"]}))
        return name

    def jobs(self) -> list[str]:
        with self.lock:
            return list(self._jobs)

    def pods_of(self, job: str) -> list[Pod]:
        with self.lock:
            return [pod for pod in self._pods.values() if pod.job == job]

    def pods_like(self, selector: str) -> list[Pod]:
        with self.lock:
            pods = list(self._pods.values())
        return [pod for pod in pods if labels_match(selector, pod.body["metadata"]["labels"])]

    def ready(self, pod: Pod) -> bool:
        """Whether the pod's readiness probe succeeds now; without one, whether it runs."""
        [container] = pod.spec["containers"]
        return pod.status["phase"] == "Running" and self.probe(pod, container, "readinessProbe")

    def probe(self, pod: Pod, container: Object, which: str) -> bool:
        probe = container.get(which)
        if probe is None:
            return True
        if command := probe.get("exec", {}).get("command"):
            return self.kubelet.execute(pod.processes[container["name"]], pod.body, command)
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        url = f"http://127.0.0.1:{ports[probe['httpGet']['port']]}{probe['httpGet']['path']}"
        command = ["curl", "--silent", "--fail", "--output", "/dev/null", url]
        return subprocess.run(command, check=False).returncode == 0

    def kill(self, pod: Pod, reason: str) -> None:
        """Kill a pod's containers, for instance as `OOMKilled`."""
        with self.lock:
            pod.ended_by = reason
            for process in pod.processes.values():
                signal_all(process, signal.SIGKILL)

    def reclaim(self, name: str) -> Node:
        """Take a node away with its pods, as a spot market does; put it back by `join`."""
        with self.lock:
            node = self.nodes.pop(name)
            for pod in self._on(name):
                self._event("Pod", pod.name, "TaintManagerEviction", "Deleting pod")
                self._delete(pod, 0)
            return node

    def lose(self, name: str) -> tuple[Node, list[Pod]]:
        """Lose sight of a node: its pods are given up, but their processes only sleep."""
        with self.lock:
            node, lost = self.nodes.pop(name), self._on(name)
            for pod in lost:
                for process in pod.processes.values():
                    signal_all(process, signal.SIGSTOP)
                self._gone(pod)
            self._frozen += lost
            return node, lost

    def wake(self, pods: list[Pod]) -> None:
        for pod in pods:
            for process in pod.processes.values():
                signal_all(process, signal.SIGCONT)

    def join(self, node: Node) -> None:
        with self.lock:
            self.nodes[node.name] = node

    # The controllers

    def add_job(self, body: Object) -> Job:
        if found := faults(body):
            raise ApiError(422, "Invalid", f"Job is invalid: {'; '.join(found)}")
        job = Job(copy.deepcopy(body))
        name, uid = job.name, str(uuid4())
        job.body["metadata"].update(uid=uid, namespace=self.namespace, creationTimestamp=_now())
        job.body["status"] = {"startTime": _now()}
        labels = {"batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name}
        metadata = job.body["spec"]["template"].setdefault("metadata", {})
        metadata["labels"] = (metadata.get("labels") or {}) | labels
        self._jobs[name] = job
        self._start_pod(job)
        return job

    def _start_pod(self, job: Job) -> None:
        template = job.body["spec"]["template"]
        try:
            pod = self._new_pod(f"{job.name[:57]}-{secrets.token_hex(2)}", template)
        except ApiError as error:
            self._event("Job", job.name, "FailedCreate", f"Error creating: {error}")
        else:
            self._event("Job", job.name, "SuccessfulCreate", f"Created pod: {pod.name}")

    def _new_pod(self, name: str, template: Object) -> Pod:
        spec, account = template["spec"], template["spec"].get("serviceAccountName", "default")
        if account != "default" and account not in self.objects.get("ServiceAccount", {}):
            message = f'pods is forbidden: serviceaccount "{account}" not found'
            raise ApiError(403, "Forbidden", message)
        if broken := list(restricted_faults(spec)):
            message = f'violates PodSecurity "restricted:latest": {", ".join(broken)}'
            raise ApiError(403, "Forbidden", message)
        metadata = copy.deepcopy(template.get("metadata") or {})
        metadata |= {"name": name, "namespace": self.namespace, "uid": str(uuid4())}
        metadata.setdefault("labels", {})
        metadata["creationTimestamp"] = _now()
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata}
        body |= {"spec": copy.deepcopy(spec), "status": {"phase": "Pending", "conditions": []}}
        self._pods[name] = Pod(body)
        return self._pods[name]

    def _run(self) -> None:
        while not self._stopping.wait(TICK):
            with self.lock:
                for pod in list(self._pods.values()):
                    self._look_at_pod(pod)
                for job in list(self._jobs.values()):
                    self._look_at_job(job)

    def _look_at_job(self, job: Job) -> None:
        status, spec = job.body["status"], job.body["spec"]
        if job.finished:
            ttl = spec.get("ttlSecondsAfterFinished")
            if ttl is not None and time.time() - job.started > ttl + status["took"]:
                self.delete_job(job.name, "Background")
            return
        phases = [pod.status["phase"] for pod in self.pods_of(job.name)]
        active = sum(phase in LIVE_PHASES for phase in phases)
        failed = job.lost + phases.count("Failed")
        counts = {"active": active, "failed": failed, "succeeded": phases.count("Succeeded")}
        status |= {name: count or None for name, count in counts.items()}
        deadline = spec.get("activeDeadlineSeconds")
        if counts["succeeded"]:
            self._finish(job, "Complete", "CompletionsReached")
        elif deadline and time.time() - job.started > deadline:
            self._finish(job, "Failed", "DeadlineExceeded")
            for pod in self.pods_of(job.name):
                self._delete(pod, None)
        elif failed > spec.get("backoffLimit", 6):
            self._finish(job, "Failed", "BackoffLimitExceeded")
        elif failed and not active:
            self._start_pod(job)

    def _finish(self, job: Job, kind: str, reason: str) -> None:
        condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": _now()}
        job.body["status"] |= {"conditions": [condition], "active": None}
        job.body["status"]["took"] = time.time() - job.started
        self._event("Job", job.name, reason, f"Job is {kind}")

    def _look_at_pod(self, pod: Pod) -> None:
        if pod.kill_at is not None and time.time() > pod.kill_at:
            for process in pod.processes.values():
                signal_all(process, signal.SIGKILL)
        if pod.status["phase"] == "Running":
            self._note_exits(pod)
        if pod.deleting and all(p.poll() is not None for p in pod.processes.values()):
            self._gone(pod)
        elif pod.status["phase"] == "Pending" and not pod.deleting and time.time() > pod.try_at:
            pod.try_at = time.time() + TRY_AGAIN
            if pod.spec.get("nodeName") or self._scheduled(pod):
                self._start_containers(pod)

    def _scheduled(self, pod: Pod) -> bool:
        """Put a pod on the first node that fits it, or say why none does."""
        reasons: list[str] = []
        for node in self.nodes.values():
            reason = self._unfit(pod, node)
            if reason is None:
                pod.body["spec"]["nodeName"] = node.name
                self._event("Pod", pod.name, "Scheduled", f"assigned to {node.name}")
                return True
            reasons.append(reason)
        counted = (f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
        message = f"0/{len(self.nodes)} nodes are available: {', '.join(counted)}."
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        pod.status["conditions"] = [condition | {"message": message}]
        self._say(pod, "FailedScheduling", message)
        return False

    def _unfit(self, pod: Pod, node: Node) -> str | None:
        wanted = pod.spec.get("nodeSelector", {})
        if any(node.labels.get(key) != value for key, value in wanted.items()):
            return "node(s) didn't match Pod's node affinity/selector"
        for taint in node.taints:
            if not tolerates(pod.spec, taint):
                return f"node(s) had untolerated taint {{{taint['key']}: {taint['value']}}}"
        others = [devices(other.spec) for other in self._on(node.name)]
        for name, count in devices(pod.spec).items():
            used = sum(other.get(name, 0) for other in others)
            if used + count > node.allocatable.get(name, 0):
                return f"Insufficient {name}"
        return None

    def _on(self, node: str) -> list[Pod]:
        pods = (pod for pod in self._pods.values() if pod.spec.get("nodeName") == node)
        return [pod for pod in pods if pod.status["phase"] in LIVE_PHASES]

    def _start_containers(self, pod: Pod) -> None:
        """Start the pod's containers; its init containers have to end first, one by one."""
        account = self._account_folder(pod)
        for init in pod.spec.get("initContainers", []):
            if init["name"] not in pod.processes:
                pod.processes[init["name"]] = self.kubelet.start(pod.body, init, account)
            if pod.processes[init["name"]].poll() != 0:
                return
        states = []
        for container in pod.spec["containers"]:
            try:
                process = self.kubelet.start(pod.body, container, account)
            except NotStartedError as error:
                waiting = {"reason": error.reason, "message": str(error)}
                pod.status["containerStatuses"] = [_state(container, {"waiting": waiting})]
                self._say(pod, "Failed", f"{error.reason}: {error}")
                return
            pod.processes[container["name"]] = process
            states.append(_state(container, {"running": {"startedAt": _now()}}))
        running = {"phase": "Running", "startTime": _now(), "podIP": "127.0.0.1"}
        pod.status.update(running, containerStatuses=states)

    def _note_exits(self, pod: Pod) -> None:
        for state in pod.status["containerStatuses"]:
            code = pod.processes[state["name"]].poll()
            if code is not None and "running" in state["state"]:
                code = code if code >= 0 else 128 - code
                reason = pod.ended_by or ("Error" if code else "Completed")
                ended = {"exitCode": code, "reason": reason, "finishedAt": _now()}
                state["state"] = {"terminated": ended}
        ends = [state["state"].get("terminated") for state in pod.status["containerStatuses"]]
        if all(ends) and pod.restarts and not pod.deleting:
            pod.status["phase"], pod.try_at = "Pending", time.time() + TRY_AGAIN
        elif all(ends):
            failed = any(end["exitCode"] for end in ends)
            pod.status["phase"] = "Failed" if failed else "Succeeded"

    def _delete(self, pod: Pod, grace: float | None) -> None:
        if pod.deleting:
            return
        given = pod.spec.get("terminationGracePeriodSeconds", 30) if grace is None else grace
        pod.body["metadata"] |= {"deletionTimestamp": _now(), "deletionGracePeriodSeconds": given}
        pod.kill_at = time.time() + given
        for process in pod.processes.values():
            stop(process)

    def _gone(self, pod: Pod) -> None:
        self._pods.pop(pod.name, None)
        if pod.job in self._jobs and pod.status["phase"] != "Succeeded":
            self._jobs[pod.job].lost += 1

    def _account_folder(self, pod: Pod) -> Path | None:
        """Return a folder with a token, if the pod is to have one."""
        account = pod.spec.get("serviceAccountName", "default")
        body = self.objects.get("ServiceAccount", {}).get(account, {})
        default = body.get("automountServiceAccountToken", True)
        if not pod.spec.get("automountServiceAccountToken", default):
            return None
        folder = self._folder / "accounts" / str(pod.body["metadata"]["uid"])
        folder.mkdir(parents=True, exist_ok=True)
        token = secrets.token_hex(16)
        self._tokens[token] = account
        (folder / "token").write_text(token)
        (folder / "namespace").write_text(self.namespace)
        (folder / "ca.crt").write_bytes(self._api.certificate.read_bytes())
        return folder

    def _say(self, pod: Pod, reason: str, message: str) -> None:
        if pod.said != message:
            pod.said = message
            self._event("Pod", pod.name, reason, message)

    def _event(self, kind: str, name: str, reason: str, message: str) -> None:
        involved = {"kind": kind, "name": name, "namespace": self.namespace}
        self.events.append(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": f"{name}.{len(self.events)}", "namespace": self.namespace},
                "involvedObject": involved,
                "type": "Warning" if reason.startswith("Failed") else "Normal",
                "reason": reason,
                "message": message,
                "firstTimestamp": _now(),
                "lastTimestamp": _now(),
                "count": 1,
            }
        )


def _state(container: Object, state: Object) -> Object:
    return {
        "name": container["name"],
        "image": container["image"],
        "imageID": container["image"],
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _found(store: dict[str, Any], what: str, name: str) -> Any:
    if name not in store:
        raise ApiError(404, "NotFound", f'{what} "{name}" not found')
    return store[name]


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
