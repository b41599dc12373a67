"""A kubelet whose containers have a root file system of their own, with the pod's volumes in it.

The root holds what an image would hold (the interpreter, its packages, our code, the system's
programs), read-only, and the pod's volumes, service account and names of services. It is made of
bind mounts in a mount namespace, which takes root; nothing is left of it when the process is gone.
The process runs as the pod's user, without capabilities. Network and process ids are the host's.
"""

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typing_extensions import override

from rag_assets_tests.kubernetes.kubelet import PROJECT, Kubelet
from rag_assets_tests.kubernetes.objects import Object

SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
ETC = ("passwd", "group", "ssl", "ld.so.cache", "nsswitch.conf", "mime.types", "alternatives")
ACCOUNT_FOLDER = "/run/secrets/kubernetes.io/serviceaccount"
WITHOUT_RIGHTS = "--no-new-privs --inh-caps=-all --bounding-set=-all --clear-groups"


@dataclass
class ContainerKubelet(Kubelet):
    """Starts containers as a container runtime does.

    Attributes:
        hosts: Addresses by the names of services.
        account: Returns a folder with a pod's token, or None if it is to have none.
        api_port: Where the API server listens.
    """

    hosts: Mapping[str, str] = field(kw_only=True)
    account: Callable[[Object], Path | None] = field(kw_only=True)
    api_port: int = field(kw_only=True)

    @override
    def command(self, pod: Object, container: Object, words: list[str]) -> list[str]:
        script = self._script(pod, container)
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh", *words]

    @override
    def environment(self, pod: Object, container: Object) -> dict[str, str]:
        api = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": self.api_port}
        image = {name: str(value) for name, value in api.items()}
        image |= {"PYTHONDONTWRITEBYTECODE": "1", "LOGNAME": "rag-assets"}
        return image | super().environment(pod, container)

    def _root(self, pod: Object) -> Path:
        return self.folder / "pods" / str(pod["metadata"]["uid"]) / "root"

    def _volume(self, pod: Object, volume: Object) -> Path:
        """Return the folder with a volume's content, made at its first use."""
        if claim := volume.get("persistentVolumeClaim"):
            folder = self.folder / "claims" / claim["claimName"]
        else:
            folder = self._root(pod).parent / "volumes" / volume["name"]
        folder.mkdir(parents=True, exist_ok=True)
        for kind, named in (("configMap", "name"), ("secret", "secretName")):
            if kind in volume:
                content = self.stored(kind, {"name": volume[kind][named]})
                for name, text in content.items():
                    (folder / name).write_text(text)
                return folder
        folder.chmod(0o777)  # what fsGroup is for
        return folder

    def _script(self, pod: Object, container: Object) -> str:
        """Return the shell script that makes the root and becomes the container's command."""
        root, mounts = self._root(pod), container.get("volumeMounts", [])
        root.mkdir(parents=True, exist_ok=True)
        volumes = {v["name"]: self._volume(pod, v) for v in pod["spec"].get("volumes", [])}
        names = (f"{address} {name}" for name, address in self.hosts.items())
        hosts = root.parent / "hosts"
        hosts.write_text("\n".join(["127.0.0.1 localhost", *names, ""]))
        lines = [*_skeleton(root), f"cp {hosts} {root}/etc/hosts"]
        for mount in sorted(mounts, key=lambda mount: len(mount["mountPath"])):
            source = volumes[mount["name"]] / mount.get("subPath", "")
            lines += _bound(source, root, mount["mountPath"], read_only=mount.get("readOnly"))
        for place in _image_files():  # after the volumes: a checkout may be below /tmp
            lines += _bound(place, root, str(place), read_only=True)
        if (account := self.account(pod)) is not None:
            lines += _bound(account, root, ACCOUNT_FOLDER, read_only=True)
        if container.get("securityContext", {}).get("readOnlyRootFilesystem"):
            lines.append(f"mount -o remount,ro {root}")
        lines.append(f'exec /usr/sbin/chroot {root} setpriv {_user(pod)} "$@"')
        return "\n".join(lines)


def _image_files() -> list[Path]:
    """Return what the Dockerfile puts into the image: interpreter, packages, our code."""
    places: list[Any] = [sys.prefix, sys.base_prefix]
    places += [place for place in sys.path if "site-packages" in place]
    files = {Path(sys.prefix), PROJECT / "rag_assets", *(Path(p).resolve() for p in places)}
    return sorted(f for f in files if not any(other in f.parents for other in files))


def _user(pod: Object) -> str:
    context = pod["spec"].get("securityContext", {})
    user, group = context.get("runAsUser", 0), context.get("runAsGroup", 0)
    return f"--reuid={user} --regid={group} {WITHOUT_RIGHTS} --"


def _skeleton(root: Path) -> list[str]:
    lines = ["set -e", f"mount -t tmpfs -o mode=755 tmpfs {root}", f"cd {root}"]
    lines += ["mkdir -m 755 etc run proc dev var home", "mkdir -m 1777 tmp", "ln -s /run var/run"]
    for name in SYSTEM:
        place = Path("/") / name
        if place.is_symlink():
            lines.append(f"ln -s {place.readlink()} {name}")
        elif place.is_dir():
            lines += [f"mkdir {name}", f"mount --bind {place} {name}"]
            lines.append(f"mount -o remount,bind,ro {name}")
    lines += ["mount --rbind /proc proc", "mount --rbind /dev dev"]
    lines += [f"cp -rL /etc/{name} etc/" for name in ETC if (Path("/etc") / name).exists()]
    return [*lines, "cd /"]


def _bound(source: Path, root: Path, path: str, *, read_only: bool | None) -> list[str]:
    place = Path(f"{root}{path}")
    target, parent = shlex.quote(str(place)), shlex.quote(str(place.parent))
    made = f"mkdir -p {target}" if source.is_dir() else f"mkdir -p {parent} && : > {target}"
    lines = [f"[ -e {target} ] || {{ {made}; }}"]
    lines.append(f"mount --bind {shlex.quote(str(source))} {target}")
    return [*lines, f"mount -o remount,bind,ro {target}"] if read_only else lines
