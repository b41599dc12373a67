"""The Pod Security Standard `restricted`, as the admission controller reads it."""

from collections.abc import Iterator

from rag_assets_tests.kubernetes.objects import Object

VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}


def violations(spec: Object) -> Iterator[str]:
    """Yield where a pod breaks the Pod Security Standard `restricted`."""
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(field):
            yield field
    for volume in spec.get("volumes", []):
        if not set(volume) - {"name"} <= VOLUMES:
            yield f"volume {volume['name']}"
    for container in [*spec.get("initContainers", []), *spec["containers"]]:
        for fault in _unrestricted(container, spec.get("securityContext", {})):
            yield f"{container['name']}: {fault}"


def _unrestricted(container: Object, pod: Object) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = pod | own
    capabilities = own.get("capabilities", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if "ALL" not in capabilities.get("drop", []):
        yield "capabilities are not dropped"
    if set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities are added"
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if both.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "no seccompProfile"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "hostPort"
