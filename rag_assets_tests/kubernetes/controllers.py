"""What works on the cluster's state, look by look: the Job controller, scheduler, pod lifecycle."""

import copy
import secrets
import signal
import time
from uuid import uuid4

from rag_assets_tests.kubernetes.kubelet import Kubelet, NotStartedError, handles, send
from rag_assets_tests.kubernetes.objects import Object, devices, tolerates
from rag_assets_tests.kubernetes.records import (
    LIVE_PHASES,
    Job,
    Node,
    Pod,
    State,
    container_status,
    now,
)

TRY_AGAIN = 1.0  # seconds until a pod that could not be placed or started is tried again


def add_job(state: State, body: Object) -> Job:
    """Take a Job and make its first pod."""
    job = Job(copy.deepcopy(body))
    name, uid = job.name, str(uuid4())
    job.body["metadata"].update(uid=uid, namespace=state.namespace, creationTimestamp=now())
    job.body["status"] = {"startTime": now()}
    labels = {"batch.kubernetes.io/job-name": name, "controller-uid": uid, "job-name": name}
    metadata = job.body["spec"]["template"].setdefault("metadata", {})
    metadata["labels"] = (metadata.get("labels") or {}) | labels
    state.jobs[name] = job
    _add_pod(state, job)
    return job


def _add_pod(state: State, job: Job) -> None:
    name = f"{job.name[:57]}-{secrets.token_hex(2)}"
    if refused := state.refuse(job.body["spec"]["template"]["spec"]):
        state.note("Job", job.name, "FailedCreate", f"Error creating: pods is forbidden: {refused}")
        return
    add_pod(state, name, job.body["spec"]["template"])
    state.note("Job", job.name, "SuccessfulCreate", f"Created pod: {name}")


def add_pod(state: State, name: str, template: Object) -> Pod:
    """Make a pod of a template."""
    template = copy.deepcopy(template)
    own = {"name": name, "namespace": state.namespace, "uid": str(uuid4())}
    body = {"apiVersion": "v1", "kind": "Pod", "spec": template["spec"]}
    body["metadata"] = template["metadata"] | own | {"creationTimestamp": now()}
    body["status"] = {"phase": "Pending", "conditions": []}
    state.pods[name] = Pod(body)
    return state.pods[name]


def look_at_job(state: State, job: Job) -> None:
    """Count its pods and decide what becomes of it."""
    status, spec = job.body["status"], job.body["spec"]
    if job.finished:
        ttl = spec.get("ttlSecondsAfterFinished")
        if ttl is not None and time.time() - job.finished_at > ttl:
            remove_job(state, job.name, with_pods=True)
        return
    phases = [pod.status["phase"] for pod in state.pods_of(job.name)]
    active = sum(phase in LIVE_PHASES for phase in phases)
    failed = job.lost + phases.count("Failed")
    counts = {"active": active, "failed": failed, "succeeded": phases.count("Succeeded")}
    status |= {name: count or None for name, count in counts.items()}
    deadline = spec.get("activeDeadlineSeconds")
    if counts["succeeded"]:
        _finish(state, job, "Complete", "CompletionsReached")
    elif deadline and time.time() - job.started > deadline:
        _finish(state, job, "Failed", "DeadlineExceeded")
        for pod in state.pods_of(job.name):
            delete_pod(pod, None)
    elif failed > spec.get("backoffLimit", 6):
        _finish(state, job, "Failed", "BackoffLimitExceeded")
    elif failed and not active:
        _add_pod(state, job)


def _finish(state: State, job: Job, kind: str, reason: str) -> None:
    condition = {"type": kind, "status": "True", "reason": reason, "lastTransitionTime": now()}
    job.body["status"] |= {"conditions": [condition], "active": None}
    job.finished_at = time.time()
    state.note("Job", job.name, reason, f"Job is {kind}")


def remove_job(state: State, name: str, *, with_pods: bool) -> None:
    """Remove a Job; without its pods, they go on as orphans."""
    del state.jobs[name]
    if with_pods:
        for pod in state.pods_of(name):
            delete_pod(pod, None)


def delete_pod(pod: Pod, grace: float | None) -> None:
    """Ask a pod's processes to end; they are killed after the grace period."""
    if pod.deleting:
        return
    given = pod.spec.get("terminationGracePeriodSeconds", 30) if grace is None else grace
    pod.body["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": given}
    pod.kill_at = time.time() + given
    for process in pod.processes.values():
        # Otherwise it has the id 1 in its container, and the kernel spares it.
        if pod.spec.get("shareProcessNamespace") or handles(process, signal.SIGTERM):
            send(process, signal.SIGTERM)


def forget_pod(state: State, pod: Pod) -> None:
    """Drop a pod's record; unless it succeeded, its Job goes on counting it as failed."""
    state.pods.pop(pod.name, None)
    if pod.prober:
        pod.prober.stop()
    if pod.job in state.jobs and pod.status["phase"] != "Succeeded":
        state.jobs[pod.job].lost += 1


def look_at_pod(state: State, kubelet: Kubelet, pod: Pod) -> None:
    """Place it, start it, note how its containers end, and remove it when that is asked for."""
    if pod.kill_at is not None and time.time() > pod.kill_at:
        for process in pod.processes.values():
            send(process, signal.SIGKILL)
    if pod.status["phase"] == "Running":
        _note_exits(pod)
    if pod.deleting and all(p.poll() is not None for p in pod.processes.values()):
        forget_pod(state, pod)
    elif pod.status["phase"] == "Pending" and not pod.deleting and time.time() > pod.try_at:
        pod.try_at = time.time() + TRY_AGAIN
        if pod.spec.get("nodeName") or _placed(state, pod):
            _start(state, kubelet, pod)


def _placed(state: State, pod: Pod) -> bool:
    """Put a pod on the first node that fits it, or say why none does."""
    reasons: list[str] = []
    for node in state.nodes.values():
        reason = _unfit(state, pod, node)
        if reason is None:
            pod.body["spec"]["nodeName"] = node.name
            placed = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
            pod.status["conditions"] = [placed]
            state.note("Pod", pod.name, "Scheduled", f"assigned to {node.name}")
            return True
        reasons.append(reason)
    counted = (f"{reasons.count(reason)} {reason}" for reason in sorted(set(reasons)))
    message = f"0/{len(state.nodes)} nodes are available: {', '.join(counted)}."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    pod.status["conditions"] = [condition | {"message": message}]
    _say(state, pod, "FailedScheduling", message)
    return False


def _unfit(state: State, pod: Pod, node: Node) -> str | None:
    selector = pod.spec.get("nodeSelector", {})
    if any(node.labels.get(key) != value for key, value in selector.items()):
        return "node(s) didn't match Pod's node affinity/selector"
    for taint in node.taints:
        if not tolerates(pod.spec, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint['value']}}}"
    others = [devices(other.spec) for other in state.live_on(node.name)]
    for name, count in devices(pod.spec).items():
        used = sum(other.get(name, 0) for other in others)
        if used + count > node.allocatable.get(name, 0):
            return f"Insufficient {name}"
    return None


def _start(state: State, kubelet: Kubelet, pod: Pod) -> None:
    """Start the pod's containers; its init containers have to end first, one by one."""
    for init in pod.spec.get("initContainers", []):
        if init["name"] not in pod.processes:
            pod.processes[init["name"]] = kubelet.start(pod.body, init)
        if pod.processes[init["name"]].poll() != 0:
            return
    statuses = []
    for container in pod.spec["containers"]:
        try:
            process = kubelet.start(pod.body, container)
        except NotStartedError as error:
            waiting = {"reason": error.reason, "message": str(error)}
            pod.status["containerStatuses"] = [container_status(container, {"waiting": waiting})]
            _say(state, pod, "Failed", f"{error.reason}: {error}")
            return
        pod.processes[container["name"]] = process
        statuses.append(container_status(container, {"running": {"startedAt": now()}}))
    pod.status.update(phase="Running", startTime=now(), containerStatuses=statuses)


def _note_exits(pod: Pod) -> None:
    for status in pod.status["containerStatuses"]:
        code = pod.processes[status["name"]].poll()
        if code is not None and "running" in status["state"]:
            code = code if code >= 0 else 128 - code
            reason = pod.ended_by or ("Error" if code else "Completed")
            ended = {"exitCode": code, "reason": reason, "finishedAt": now()}
            status["state"] = {"terminated": ended}
    ends = [status["state"].get("terminated") for status in pod.status["containerStatuses"]]
    if all(ends) and pod.restarts and not pod.deleting:
        pod.status["phase"], pod.try_at, pod.ended_by = "Pending", time.time() + TRY_AGAIN, ""
    elif all(ends):
        failed = any(end["exitCode"] for end in ends)
        pod.status["phase"] = "Failed" if failed else "Succeeded"


def _say(state: State, pod: Pod, reason: str, message: str) -> None:
    if pod.message != message:
        pod.message = message
        state.note("Pod", pod.name, reason, message)
