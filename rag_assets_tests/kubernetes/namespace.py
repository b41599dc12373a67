"""A namespace that a chart can be installed in: accounts and Roles, deployments, Pod Security."""

import copy
import secrets
import subprocess
from collections.abc import Iterable
from pathlib import Path

import grpc
import kubernetes_validate
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rag_assets_tests.kubernetes import controllers
from rag_assets_tests.kubernetes.api import ApiServer, make_certificate
from rag_assets_tests.kubernetes.cluster import Cluster
from rag_assets_tests.kubernetes.containers import ContainerKubelet
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.kubernetes.records import Job, Node, Pod
from rag_assets_tests.kubernetes.restricted import violations


class Namespace(Cluster):
    """A cluster whose API is served over TLS, to service accounts, as far as their Roles go.

    Attributes:
        objects: What was applied, by kind and name.
        hosts: Addresses by the names of services.
    """

    def __init__(self, folder: Path, image: str, nodes: Iterable[Node], namespace: str) -> None:
        super().__init__(folder, image, nodes, namespace, role=[])
        self._api.discard()
        self.objects: dict[str, dict[str, Object]] = {}
        self.hosts: dict[str, str] = {}
        self._accounts: dict[str, str] = {}  # by token
        self._folder = folder
        self._state.refuse = self._refuse
        make_certificate(folder)
        self._api = ApiServer(self, folder)
        self.kubelet = ContainerKubelet(
            *(folder, image, self.config_maps, self.secrets),
            hosts=self.hosts, account=self._account_folder, api_port=self._api.port,
        )  # fmt: skip

    def rules_of(self, token: str) -> list[Object] | None:
        if token not in self._accounts:
            return None
        bindings = self.objects.get("RoleBinding", {}).values()
        return [
            rule
            for binding in bindings
            if any(subject["name"] == self._accounts[token] for subject in binding["subjects"])
            for rule in self.objects["Role"][binding["roleRef"]["name"]]["rules"]
        ]

    def apply(self, body: Object) -> None:
        """Take an object as `kubectl apply` does; the schemas decide strictly."""
        kind, name = body["kind"], body["metadata"]["name"]
        kubernetes_validate.validate(body, kubernetes_validate.latest_version(), strict=True)
        with self.lock:
            self.objects.setdefault(kind, {})[name] = body
            if kind == "ConfigMap":
                self.config_maps[name] = body["data"]
            elif kind == "Service":
                self.hosts[name] = "127.0.0.1"
            elif kind == "Job":
                controllers.add_job(self._state, body)
            elif kind == "Pod":
                self._admit(name, body)
            elif kind == "Deployment":
                for _ in range(body["spec"]["replicas"]):
                    pod = self._admit(f"{name}-{secrets.token_hex(3)}", body["spec"]["template"])
                    pod.restarts = True

    def trigger(self, cron_job: str) -> Job:
        """Start a CronJob now; return its Job."""
        template = copy.deepcopy(self.objects["CronJob"][cron_job]["spec"]["jobTemplate"])
        metadata = {"name": f"{cron_job}-{secrets.token_hex(3)}"}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, **template}
        with self.lock:
            return controllers.add_job(self._state, job)

    def component(self, name: str) -> Pod:
        """Return the one pod of a component."""
        with self.lock:
            [found] = [
                pod
                for pod in self._state.pods.values()
                if pod.body["metadata"]["labels"].get("app.kubernetes.io/component") == name
            ]
        return found

    def happened(self, name: str) -> str:
        """Return what a Job or pod has written, and its events."""
        events = [
            f"{event['reason']}: {event['message']}"
            for event in self._state.events
            if event["involvedObject"]["name"].startswith(name)
        ]
        written = [path.read_text() for path in self._folder.glob(f"{name}*.log")]
        return "\n".join([*written, *events])[-6000:]

    def ready(self, pod: Pod) -> bool:
        """Whether a pod runs and its readiness probe, if it has one, succeeds now."""
        if pod.status["phase"] != "Running":
            return False
        [container] = pod.spec["containers"]
        probe = container.get("readinessProbe", {})
        if get := probe.get("httpGet"):
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            url = f"http://127.0.0.1:{ports[get['port']]}{get['path']}"
            command = ["curl", "--silent", "--fail", "--output", "/dev/null", url]
            return subprocess.run(command, check=False).returncode == 0
        if grpc := probe.get("grpc"):
            return serving(grpc["port"], grpc["service"])
        return True

    def _admit(self, name: str, template: Object) -> Pod:
        if refused := self._refuse(template["spec"]):
            raise ValueError(f"pod {name} is forbidden: {refused}")
        return controllers.add_pod(self._state, name, template)

    def _refuse(self, spec: Object) -> str:
        account = spec.get("serviceAccountName", "default")
        if account != "default" and account not in self.objects.get("ServiceAccount", {}):
            return f'serviceaccount "{account}" not found'
        found = list(violations(spec))
        return f'violates PodSecurity "restricted:latest": {", ".join(found)}' if found else ""

    def _account_folder(self, pod: Object) -> Path | None:
        """Return a folder with a token, the namespace and the authority, if the pod gets them."""
        account = pod["spec"].get("serviceAccountName", "default")
        body = self.objects.get("ServiceAccount", {}).get(account, {})
        default = body.get("automountServiceAccountToken", True)
        if not pod["spec"].get("automountServiceAccountToken", default):
            return None
        folder = self._folder / "accounts" / str(pod["metadata"]["uid"])
        folder.mkdir(parents=True, exist_ok=True)
        token = secrets.token_hex(16)
        self._accounts[token] = account
        (folder / "token").write_text(token)
        (folder / "namespace").write_text(self.namespace)
        (folder / "ca.crt").write_bytes((self._folder / "ca.crt").read_bytes())
        return folder


def serving(port: int, service: str) -> bool:
    """Ask a server how it is, as a `grpc` probe does."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
