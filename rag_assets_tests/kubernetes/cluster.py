"""One namespace of a cluster: what its API serves, and what can befall it."""

import copy
import json
import secrets
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rag_assets_tests.kubernetes import controllers
from rag_assets_tests.kubernetes.api import ACCOUNT, ApiError, ApiServer, Request
from rag_assets_tests.kubernetes.kubelet import Kubelet, send
from rag_assets_tests.kubernetes.objects import Object, faults, fields_match, labels_match
from rag_assets_tests.kubernetes.records import Job, Node, Pod, State

TICK = 0.1


class Cluster:
    """The cluster.

    Attributes:
        config_maps: By name; tests add them, and the secrets.
        role: The rules of the one account there is.
        refusals: Status codes for the next requests, whatever they are.
        unknown: What was asked for and is not served.
        requested: Every request that was understood.
        launched: Every Job that was created through the API, as it was sent.
    """

    def __init__(
        self, folder: Path, image: str, nodes: Iterable[Node], namespace: str, role: list[Object]
    ) -> None:
        self.namespace, self.role = namespace, role
        self.config_maps: dict[str, Mapping[str, str]] = {}
        self.secrets: dict[str, Mapping[str, str]] = {}
        self.refusals: list[int] = []
        self.unknown: list[str] = []
        self.requested: list[Request] = []
        self.launched: list[Object] = []
        self.lock = threading.RLock()
        self.token = secrets.token_hex(16)
        self.kubelet = Kubelet(folder, image, self.config_maps, self.secrets)
        self._state = State(namespace, {node.name: node for node in nodes})
        self._frozen: list[Pod] = []
        self._stopping = threading.Event()
        self._api = ApiServer(self)
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
            for pod in [*self._state.pods.values(), *self._frozen]:
                if pod.prober:
                    pod.prober.stop()
                for process in pod.processes.values():
                    send(process, signal.SIGKILL)
                    process.wait()
            self._api.stop()

    def kubeconfig(self) -> Path:
        """Write the file that a client needs; return its path."""
        named = {"cluster": "stand-in", "user": ACCOUNT, "namespace": self.namespace}
        path = self.kubelet.folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "stand-in",
            "clusters": [{"name": "stand-in", "cluster": {"server": self._api.url}}],
            "users": [{"name": ACCOUNT, "user": {"token": self.token}}],
            "contexts": [{"name": "stand-in", "context": named}],
        }
        path.write_text(json.dumps(config))
        return path

    def _run(self) -> None:
        while not self._stopping.wait(TICK):
            with self.lock:
                self._look()

    def _look(self) -> None:
        for pod in list(self._state.pods.values()):
            controllers.look_at_pod(self._state, self.kubelet, pod)
        for job in list(self._state.jobs.values()):
            controllers.look_at_job(self._state, job)

    def rules_of(self, token: str) -> list[Object] | None:
        """Return what the holder of a token may do; None if there is no such token."""
        return self.role if token == self.token else None

    def job_of(self, run_id: str) -> Object:
        """Return the Job of a run, as it was sent to the API server."""
        name = f"dagster-run-{run_id}"
        return next(job for job in self.launched if job["metadata"]["name"] == name)

    # What the API serves, under the lock

    def create_job(self, body: Object) -> Object:
        if found := faults(body):
            raise ApiError(422, "Invalid", f"Job is invalid: {'; '.join(found)}")
        if body["metadata"]["name"] in self._state.jobs:
            raise ApiError(409, "AlreadyExists", f"{body['metadata']['name']} already exists")
        self.launched.append(copy.deepcopy(body))
        return controllers.add_job(self._state, body).body

    def job(self, name: str) -> Job:
        return _found(self._state.jobs, "jobs.batch", name)

    def pod(self, name: str) -> Pod:
        return _found(self._state.pods, "pods", name)

    def listing(self, kind: str, options: Mapping[str, str]) -> Object:
        bodies = {
            "Job": lambda: [job.body for job in self._state.jobs.values()],
            "Pod": lambda: [pod.body for pod in self._state.pods.values()],
            "Event": lambda: self._state.events,
        }[kind]()
        items = [
            body
            for body in bodies
            if labels_match(options.get("labelSelector", ""), body["metadata"].get("labels") or {})
            and fields_match(options.get("fieldSelector", ""), body)
        ]
        version = "batch/v1" if kind == "Job" else "v1"
        return {"kind": f"{kind}List", "apiVersion": version, "metadata": {}, "items": items}

    def log(self, name: str, options: Mapping[str, str]) -> bytes:
        container = options.get("container") or self.pod(name).spec["containers"][0]["name"]
        path = self.kubelet.log(name, container)
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return b"".join(lines[-int(options.get("tailLines", len(lines) or 1)) :])

    def delete_job(self, name: str, policy: str) -> Object:
        self.job(name)
        # Without a policy, batch/v1 leaves the pods.
        with_pods = policy in ("Background", "Foreground")
        controllers.remove_job(self._state, name, with_pods=with_pods)
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def delete_pod(self, name: str, grace: float | None) -> Object:
        pod = self.pod(name)
        controllers.delete_pod(pod, grace)
        return pod.body

    # What tests see and do

    @property
    def nodes(self) -> dict[str, Node]:
        return self._state.nodes

    def jobs(self) -> list[str]:
        with self.lock:
            return list(self._state.jobs)

    def pods_of(self, job: str) -> list[Pod]:
        with self.lock:
            return self._state.pods_of(job)

    def kill(self, pod: Pod, reason: str) -> None:
        """Kill a pod's containers, for instance as `OOMKilled`."""
        with self.lock:
            pod.ended_by = reason
            for process in pod.processes.values():
                send(process, signal.SIGKILL)

    def reclaim(self, name: str) -> Node:
        """Take a node away with its pods, as a spot market does; put it back by `join`."""
        with self.lock:
            node, doomed = self.nodes.pop(name), self._state.live_on(name)
            for pod in doomed:
                self._state.note("Pod", pod.name, "TaintManagerEviction", "Deleting pod")
                controllers.delete_pod(pod, 0)
            return node

    def lose(self, name: str) -> tuple[Node, list[Pod]]:
        """Lose sight of a node: its pods are given up, but their processes only sleep."""
        with self.lock:
            node, lost = self.nodes.pop(name), self._state.live_on(name)
            for pod in lost:
                for process in pod.processes.values():
                    send(process, signal.SIGSTOP)
                controllers.forget_pod(self._state, pod)
            self._frozen += lost
            return node, lost

    def wake(self, pods: Iterable[Pod]) -> None:
        for pod in pods:
            for process in pod.processes.values():
                send(process, signal.SIGCONT)

    def join(self, node: Node) -> None:
        with self.lock:
            self.nodes[node.name] = node


def _found(store: Mapping[str, Any], what: str, name: str) -> Any:
    if name not in store:
        raise ApiError(404, "NotFound", f'{what} "{name}" not found')
    return store[name]
