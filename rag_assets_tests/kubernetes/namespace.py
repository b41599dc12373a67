"""A namespace that a chart can be installed in: accounts and Roles, deployments, Pod Security."""

import copy
import secrets
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import kubernetes_validate
from typing_extensions import override

from rag_assets_tests.kubernetes import controllers
from rag_assets_tests.kubernetes.api import ApiServer, make_certificate
from rag_assets_tests.kubernetes.cluster import Cluster
from rag_assets_tests.kubernetes.containers import ContainerKubelet
from rag_assets_tests.kubernetes.deployments import Deployment
from rag_assets_tests.kubernetes.kubelet import send
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.kubernetes.records import Node, Pod, now
from rag_assets_tests.kubernetes.restricted import violations
from rag_assets_tests.kubernetes.services import Proxy


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
        self._deployments: dict[str, Deployment] = {}
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
            elif kind in ("Deployment", "StatefulSet"):
                self._require_admitted(name, body["spec"]["template"])
                self._deployments[name] = Deployment(body)

    def rolled_out(self, name: str) -> bool:
        """Whether a deployment's pods are as it says and ready, as `kubectl rollout status`."""
        with self.lock:
            return self._deployments[name].complete(self._state)

    def restart(self, name: str) -> None:
        """Replace a deployment's pods, as `kubectl rollout restart` does: by an annotation."""
        body = copy.deepcopy(self.objects["Deployment"][name])
        annotations = body["spec"]["template"]["metadata"].setdefault("annotations", {})
        annotations["kubectl.kubernetes.io/restartedAt"] = f"{now()} {secrets.token_hex(3)}"
        self.apply(body)

    def delete(self, pod: Pod) -> None:
        """Delete a pod, as `kubectl delete pod` or an eviction does."""
        with self.lock:
            controllers.delete_pod(pod, None)

    def signal(self, pod: Pod, number: signal.Signals) -> None:
        """Send a signal to a pod's containers, past Kubernetes."""
        for process in pod.processes.values():
            send(process, number)

    def pods(self, deployment: str) -> list[Pod]:
        """Return the pods of a deployment that are not being deleted."""
        with self.lock:
            return self._deployments[deployment].pods(self._state)

    @contextmanager
    def service(self, name: str) -> Iterator[str]:
        """Let clients reach the first port of a Service; yield its URL."""
        spec = self.objects["Service"][name]["spec"]
        with Proxy(lambda: self._endpoints(spec)).running() as url:
            yield url

    def _endpoints(self, service: Object) -> list[int]:
        """Return the ports of the pods that a Service selects, are ready, and stay."""
        with self.lock:
            return [
                port["containerPort"]
                for pod in self._state.pods.values()
                if service["selector"].items() <= pod.body["metadata"]["labels"].items()
                if pod.ready and not pod.deleting
                for port in pod.spec["containers"][0]["ports"]
                if port["name"] == service["ports"][0]["targetPort"]
            ]

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

    @override
    def _look(self) -> None:
        super()._look()
        for deployment in self._deployments.values():
            deployment.look(self._state, self._admit)

    def _admit(self, name: str, template: Object) -> Pod:
        self._require_admitted(name, template)
        return controllers.add_pod(self._state, name, template)

    def _require_admitted(self, name: str, template: Object) -> None:
        if refused := self._refuse(template["spec"]):
            raise ValueError(f"pod {name} is forbidden: {refused}")

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
