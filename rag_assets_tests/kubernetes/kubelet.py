"""The kubelet: runs each container as a process with a root file system of its own.

The root holds what an image would hold (the interpreter, its packages, our code, the system's
programs), read-only, and the pod's volumes, service account and names. It is made of bind mounts
in a mount namespace, so nothing is left of it when the process is gone. Network and process ids
are the host's.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rag_assets

Object = dict[str, Any]
Store = Mapping[str, Mapping[str, str]]

PROJECT = Path(rag_assets.__file__).parents[1]
SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC = ("passwd", "group", "ssl", "ld.so.cache", "nsswitch.conf", "mime.types", "alternatives")
ACCOUNT_FOLDER = "/run/secrets/kubernetes.io/serviceaccount"
AS_USER = "--no-new-privs --inh-caps=-all --bounding-set=-all --clear-groups"


class NotStartedError(Exception):
    """A container that cannot be started now: `reason` as in its waiting state."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Image:
    """What an image would give a container: files at their own paths, and variables."""

    files: tuple[Path, ...]
    environment: dict[str, str]

    @classmethod
    def of_this_interpreter(cls) -> "Image":
        """Return what the Dockerfile makes: this interpreter, its packages and our code."""
        places = [sys.prefix, sys.base_prefix, *(p for p in sys.path if "site-packages" in p)]
        files = {Path(place).resolve() for place in places}
        files |= {Path(sys.prefix), PROJECT / "rag_assets"}
        outermost = [f for f in files if not any(o in f.parents for o in files)]
        environment = {
            "PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": str(PROJECT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "LOGNAME": "rag-assets",
        }
        return cls(tuple(sorted(outermost)), environment)


@dataclass
class Kubelet:
    """Starts containers in `folder`; the stores are the cluster's own and may change."""

    folder: Path
    images: Mapping[str, Image]
    config_maps: Store
    secrets: Store
    hosts: Mapping[str, str]
    api_port: int

    def start(self, pod: Object, container: Object, account: Path | None) -> subprocess.Popen[bytes]:
        """Start a container; `account` is a folder with token, namespace and certificate.

        Raises:
            NotStartedError: Its image, or something that it refers to, is not there.
        """
        image = self.images.get(container["image"])
        if image is None:
            raise NotStartedError("ErrImagePull", f'image "{container["image"]}" not found')
        environment = image.environment | {"HOSTNAME": pod["metadata"]["name"]}
        environment |= {"KUBERNETES_SERVICE_HOST": "127.0.0.1"}
        environment |= {"KUBERNETES_SERVICE_PORT": str(self.api_port)}
        environment |= self._environment(pod, container)
        script = self._script(pod, container, image, account)
        log = self.log(pod, container["name"])
        with log.open("ab") as output:
            return subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]
                + _command(container, environment),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def execute(self, process: subprocess.Popen[bytes], pod: Object, command: list[str]) -> bool:
        """Run a command inside a running container, as `exec` probes do; return its success."""
        root, user = self._root(pod), _user(pod)
        environment = Path(f"/proc/{process.pid}/environ").read_bytes().decode().split("\0")
        result = subprocess.run(
            ["nsenter", "--mount", f"--target={process.pid}", "/usr/sbin/chroot", str(root), "setpriv"]
            + [*shlex.split(user), *command],
            env=dict(pair.split("=", 1) for pair in environment if "=" in pair),
            capture_output=True,
            check=False,
        )
        return result.returncode == 0

    def log(self, pod: Object, container: str) -> Path:
        return self.folder / f"{pod['metadata']['name']}.{container}.log"

    def _root(self, pod: Object) -> Path:
        return self.folder / "pods" / str(pod["metadata"]["uid"]) / "root"

    def _environment(self, pod: Object, container: Object) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            for kind in ("configMap", "secret"):
                if reference := source.get(f"{kind}Ref"):
                    found |= self._stored(kind, reference)
        for variable in container.get("env", []):
            found[variable["name"]] = self._value(pod, variable)
        if any("nvidia.com/" in name for name in _limits(container)):
            found["NVIDIA_VISIBLE_DEVICES"] = "stand-in"  # what NVIDIA's runtime sets
        return found

    def _value(self, pod: Object, variable: Object) -> str:
        origin = variable.get("valueFrom")
        if not origin:
            return str(variable.get("value") or "")
        if field := origin.get("fieldRef"):
            value: Any = pod
            for part in field["fieldPath"].split("."):
                value = value[part]
            return str(value)
        kind = "secret" if "secretKeyRef" in origin else "configMap"
        reference = origin[f"{kind}KeyRef"]
        stored = self._stored(kind, reference)
        if reference["key"] not in stored:
            message = f'couldn\'t find key {reference["key"]} in {kind} "{reference["name"]}"'
            raise NotStartedError("CreateContainerConfigError", message)
        return stored[reference["key"]]

    def _stored(self, kind: str, reference: Object) -> Mapping[str, str]:
        store = self.secrets if kind == "secret" else self.config_maps
        if reference["name"] in store:
            return store[reference["name"]]
        if reference.get("optional"):
            return {}
        message = f'{kind.lower()} "{reference["name"]}" not found'
        raise NotStartedError("CreateContainerConfigError", message)

    def _volume(self, pod: Object, volume: Object) -> Path:
        """Return the folder with a volume's content, made at its first use."""
        if claim := volume.get("persistentVolumeClaim"):
            folder = self.folder / "claims" / claim["claimName"]
        else:
            folder = self._root(pod).parent / "volumes" / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        for kind, named in (("configMap", "name"), ("secret", "secretName")):
            if kind in volume:
                content = self._stored(kind, {"name": volume[kind][named]})
                for name, text in content.items():
                    (folder / name).write_text(text)
        if not {"configMap", "secret"} & set(volume):
            folder.chmod(0o777)  # what fsGroup is for
        return folder

    def _script(self, pod: Object, container: Object, image: Image, account: Path | None) -> str:
        """Return the shell script that makes the root and becomes the container's command."""
        root = self._root(pod)
        root.mkdir(parents=True, exist_ok=True)
        volumes = {v["name"]: self._volume(pod, v) for v in pod["spec"].get("volumes", [])}
        hosts = root.parent / "hosts"
        names = (f"{address} {name}" for name, address in self.hosts.items())
        hosts.write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
        lines = [*_skeleton(root), f"cp {hosts} {root}/etc/hosts"]
        for place in image.files:
            lines += _bound(place, root, str(place), read_only=True)
        for mount in sorted(container.get("volumeMounts", []), key=lambda m: len(m["mountPath"])):
            source = volumes[mount["name"]] / mount.get("subPath", "")
            lines += _bound(source, root, mount["mountPath"], read_only=mount.get("readOnly"))
        if account is not None:
            lines += _bound(account, root, ACCOUNT_FOLDER, read_only=True)
        if container.get("securityContext", {}).get("readOnlyRootFilesystem"):
            lines.append(f"mount -o remount,ro {root}")
        lines.append(f'exec /usr/sbin/chroot {root} setpriv {_user(pod)} "$@"')
        return "\n".join(lines)


def _command(container: Object, environment: Mapping[str, str]) -> list[str]:
    words = [*container.get("command", []), *container.get("args", [])]
    return [re.sub(r"\$\((\w+)\)", lambda m: environment.get(m[1], m[0]), word) for word in words]


def _user(pod: Object) -> str:
    context = pod["spec"].get("securityContext", {})
    user, group = context.get("runAsUser", 0), context.get("runAsGroup", 0)
    return f"--reuid={user} --regid={group} {AS_USER} --"


def _skeleton(root: Path) -> list[str]:
    lines = ["set -e", f"mount -t tmpfs -o mode=755 tmpfs {root}", f"cd {root}"]
    lines.append("mkdir -m 755 etc run proc dev var home && mkdir -m 1777 tmp && ln -s /run var/run")
    for name in SYSTEM:
        place = Path("/") / name
        if place.is_symlink():
            lines.append(f"ln -s {os.readlink(place)} {name}")
        elif place.is_dir():
            lines += [f"mkdir {name}", f"mount --bind {place} {name}"]
    lines += ["mount --rbind /proc proc", "mount --rbind /dev dev"]
    lines += [f"cp -rL /etc/{name} etc/" for name in ETC if (Path("/etc") / name).exists()]
    return [*lines, "cd /"]


def _bound(source: Path, root: Path, path: str, *, read_only: bool | None) -> list[str]:
    target = shlex.quote(f"{root}{path}")
    parent = shlex.quote(str(Path(f"{root}{path}").parent))
    made = f"mkdir -p {target}" if source.is_dir() else f"mkdir -p {parent} && : > {target}"
    lines = [f"[ -e {target} ] || {{ {made}; }}", f"mount --bind {shlex.quote(str(source))} {target}"]
    return [*lines, f"mount -o remount,bind,ro {target}"] if read_only else lines


def _limits(container: Object) -> Object:
    return dict((container.get("resources") or {}).get("limits") or {})


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a container's first process to end."""
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)


def signal_all(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to all processes of a container."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
