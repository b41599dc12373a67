"""What the API server and the scheduler decide by looking at an object alone."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate

Object = dict[str, Any]

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
LONGEST_NAME = 63


def labels_match(selector: str, labels: Mapping[str, str]) -> bool:
    """Whether labels fit a selector of terms `key`, `key=value` and `key!=value`."""

    def fits(term: str) -> bool:
        if "!=" in term:
            key, value = term.split("!=", 1)
            return labels.get(key) != value
        key, equals, value = term.partition("=")
        return labels.get(key) == value.lstrip("=") if equals else key in labels

    return all(fits(term) for term in selector.split(",") if term)


def fields_match(selector: str, body: Object) -> bool:
    """Whether fields fit a selector of terms `path.to.field=value`."""

    def value_at(path: str) -> Any:
        found: Any = body
        for part in path.split("."):
            found = (found or {}).get(part)
        return found

    terms = (term.partition("=") for term in selector.split(",") if term)
    return all(value_at(path) == value.lstrip("=") for path, _, value in terms)


def tolerates(spec: Object, taint: Mapping[str, str]) -> bool:
    if taint["effect"] == "PreferNoSchedule":
        return True
    for toleration in spec.get("tolerations", []):
        if toleration.get("effect") not in (None, "", taint["effect"]):
            continue
        same_key = toleration.get("key") == taint["key"]
        if toleration.get("operator", "Equal") == "Exists":
            if same_key or not toleration.get("key"):
                return True
        elif same_key and toleration.get("value", "") == taint.get("value", ""):
            return True
    return False


def devices(spec: Object) -> dict[str, int]:
    """Return how many of each extended resource (`nvidia.com/gpu`) a pod takes."""
    total: dict[str, int] = {}
    for container in spec["containers"]:
        for name, count in _resources(container, "limits").items():
            if "/" in name:
                total[name] = total.get(name, 0) + int(count)
    return total


def cpus(quantity: str) -> float:
    """Return a number of CPUs."""
    return float(quantity[:-1]) / 1000 if quantity.endswith("m") else float(quantity)


def faults(job: Object) -> list[str]:
    """Return why an API server would refuse a Job: unknown fields, bad names, GPU counts."""
    spec = job["spec"]["template"]["spec"]
    return [*_bad_names(job), *_schema_faults(job), *_bad_resources(spec), *_bad_mounts(spec)]


def _bad_names(body: Object) -> Iterator[str]:
    metadata = body["metadata"]
    name = metadata.get("name", "")
    if not NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        yield f"metadata.name: {name!r}"
    template = body["spec"]["template"].get("metadata", {})
    labels = (metadata.get("labels") or {}) | (template.get("labels") or {})
    for key, value in labels.items():
        if len(value) > LONGEST_NAME or not LABEL_VALUE.fullmatch(value):
            yield f"label {key}={value!r}"


def _bad_resources(spec: Object) -> Iterator[str]:
    for container in spec["containers"]:
        limits, requests = _resources(container, "limits"), _resources(container, "requests")
        for name in {*limits, *requests}:
            if "/" not in name:
                continue
            if not str(limits.get(name, "")).isdigit():
                yield f"{name}: must be an integer limit"
            elif str(requests.get(name, limits[name])) != str(limits[name]):
                yield f"{name}: requests must equal limits"


def _bad_mounts(spec: Object) -> Iterator[str]:
    volumes = {volume["name"] for volume in spec.get("volumes", [])}
    for container in spec["containers"]:
        mounts = container.get("volumeMounts", [])
        for mount in mounts:
            if mount["name"] not in volumes:
                yield f"{container['name']}: no volume {mount['name']}"
        paths = [mount["mountPath"] for mount in mounts]
        if len(paths) != len(set(paths)):
            yield f"{container['name']}: a mountPath is there twice"


def _schema_faults(body: Object) -> Iterator[str]:
    try:
        kubernetes_validate.validate(body, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f"strict decoding error: {str(error)[:400]}"


def _resources(container: Object, which: str) -> Object:
    return dict((container.get("resources") or {}).get(which) or {})
