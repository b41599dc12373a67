"""The Deployment controller: how many pods there are, of which template, and in which order.

What belongs here: what it decides at a look. What does not: whether a pod is ready (`probes.py`).

Pods of the stand-in have no addresses of their own. Those of a Deployment that names RollingUpdate
as its strategy run side by side, so each gets ports of its own, in place of those in its template.
The others are replaced as by Recreate, also where Kubernetes would roll by default: their ports are
those of the manifests. That is also what a StatefulSet of one does: it has no pod before the last
one is gone.
"""

import copy
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from rag_assets.core.identity import digest
from rag_assets_tests.kubernetes import controllers
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.kubernetes.probes import Prober
from rag_assets_tests.kubernetes.records import Pod, State
from rag_assets_tests.support.milvus_servers import free_ports

Admit = Callable[[str, Object], Pod]


@dataclass
class Deployment:
    """A Deployment or a StatefulSet of one, as it was applied last."""

    body: Object

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def wanted(self) -> int:
        return int(self.body["spec"]["replicas"])

    @property
    def rolls(self) -> bool:
        return bool(self.body["spec"].get("strategy", {}).get("type") == "RollingUpdate")

    @property
    def template(self) -> str:
        """Identifies the template."""
        return digest(repr(self.body["spec"]["template"]))

    def pods(self, state: State) -> list[Pod]:
        """Return its pods, without those that are being deleted."""
        return [p for p in state.pods.values() if p.deployment == self.name and not p.deleting]

    def complete(self, state: State) -> bool:
        """Whether its pods are as many as wanted, of the current template, and ready."""
        pods = self.pods(state)
        current = [pod for pod in pods if pod.template == self.template and pod.ready]
        return len(pods) == len(current) == self.wanted

    def look(self, state: State, admit: Admit) -> None:
        """Take one step towards what is wanted."""
        pods = self.pods(state)
        old = [pod for pod in pods if pod.template != self.template]
        new = [pod for pod in pods if pod.template == self.template]
        if not self.rolls:
            self._recreate(state, old, new, admit)
            return
        strategy = self.body["spec"]["strategy"]["rollingUpdate"]
        if len(new) < self.wanted and len(pods) < self.wanted + strategy["maxSurge"]:
            self._add(admit)
        ready = sum(pod.ready for pod in pods)
        for pod in [*sorted(old, key=lambda pod: pod.ready), *new[self.wanted :]]:
            if not pod.ready or ready > self.wanted - strategy["maxUnavailable"]:
                ready -= pod.ready
                controllers.delete_pod(pod, None)

    def _recreate(self, state: State, old: list[Pod], new: list[Pod], admit: Admit) -> None:
        for pod in old:
            controllers.delete_pod(pod, None)
        gone = not any(p.deployment == self.name and p.deleting for p in state.pods.values())
        if gone and len(new) < self.wanted:
            self._add(admit)

    def _add(self, admit: Admit) -> None:
        template = self.body["spec"]["template"]
        made = with_ports_of_its_own(template) if self.rolls else template
        pod = admit(f"{self.name}-{secrets.token_hex(3)}", made)
        pod.restarts = True
        pod.deployment, pod.template = self.name, self.template
        pod.prober = Prober(pod)


def with_ports_of_its_own(template: Object) -> Object:
    """Return a template whose ports nobody listens on, also where its arguments name them."""
    template = copy.deepcopy(template)
    for container in template["spec"]["containers"]:
        for port in container["ports"]:
            [own] = free_ports(1)
            given = str(port["containerPort"])
            container["args"] = [str(own) if word == given else word for word in container["args"]]
            port["containerPort"] = own
    return template
