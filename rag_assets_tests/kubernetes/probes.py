"""The kubelet's probes: whether a pod's container has started, lives and is ready, really asked.

What belongs here: when and how containers are asked, and what follows. What does not: who is sent
requests (`services.py`), and how many pods there are (`deployments.py`).
"""

import http.client
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rag_assets_tests.kubernetes.kubelet import send
from rag_assets_tests.kubernetes.objects import Object
from rag_assets_tests.kubernetes.records import Pod

TICK = 0.1


@dataclass
class Probe:
    """One probe of a container: `passed` is what it has found, None before it knows."""

    spec: Object
    ports: Mapping[str, int]
    due: float = 0.0
    failures: int = 0
    passed: bool | None = None

    def ask(self) -> None:
        """Ask, if that is due."""
        if time.monotonic() < self.due:
            return
        self.due = time.monotonic() + self.spec.get("periodSeconds", 10)
        if succeeds(self.spec, self.ports):
            self.failures, self.passed = 0, True
        else:
            self.failures += 1
            if self.failures >= self.spec.get("failureThreshold", 3):
                self.passed = False


class Prober:
    """Asks the one container of a pod as long as the pod is there, and keeps `pod.ready`."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._gone = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._gone.set()

    def _run(self) -> None:
        [container] = self._pod.spec["containers"]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        process: subprocess.Popen[bytes] | None = None
        probes: dict[str, Probe | None] = {}
        while not self._gone.wait(TICK):
            running = self._pod.processes.get(container["name"])
            if running is None or running.poll() is not None:
                self._pod.ready = False
                continue
            if running is not process:  # what was known is of another process
                process = running
                probes = {
                    kind: Probe(spec, ports) if (spec := container.get(f"{kind}Probe")) else None
                    for kind in ("startup", "liveness", "readiness")
                }
            self._look(running, probes)

    def _look(self, process: subprocess.Popen[bytes], probes: Mapping[str, Probe | None]) -> None:
        """Ask what is due; end a container that does not start, or does not live any more."""
        startup, liveness, readiness = probes["startup"], probes["liveness"], probes["readiness"]
        if startup and not startup.passed:
            startup.ask()
            if startup.passed is False:
                send(process, signal.SIGTERM)
            return
        for probe in (liveness, readiness):
            if probe:
                probe.ask()
        self._pod.ready = readiness is None or readiness.passed is True
        if liveness and liveness.passed is False:
            send(process, signal.SIGTERM)


def succeeds(probe: Object, ports: Mapping[str, int]) -> bool:
    """Ask a container as a probe says; return whether the answer is a good one."""
    seconds = probe.get("timeoutSeconds", 1)
    if asked := probe.get("grpc"):
        return _serving(asked["port"], asked["service"], seconds)
    asked = probe["httpGet"]
    connection = http.client.HTTPConnection("127.0.0.1", ports[asked["port"]], timeout=seconds)
    try:
        connection.request("GET", asked["path"])
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _serving(port: int, service: str, seconds: float) -> bool:
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=seconds)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
