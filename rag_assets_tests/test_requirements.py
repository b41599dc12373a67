"""What rag-assets is installed with: locked with hashes, and under licences that permit its use."""

import re
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCKS = {
    "dev": ("flagembedding", "minilm", "kubernetes", "dev"),
    "kubernetes": ("kubernetes",),
    "kubernetes,flagembedding": ("kubernetes", "flagembedding"),
}
"""Lock → the extras that it is for."""

TORCH = "torch"  # not locked: each machine has a build of its own

PERMITTED = re.compile(
    r"\b(MIT|BSD|Apache|ISC|PSF|Python Software Foundation|MPL|Mozilla|Unlicense|0BSD|Zlib|HPND"
    r"|Public Domain|CC0|CNRI)\b",
    re.IGNORECASE,
)
REFUSED = re.compile(r"\b(A?GPL|General Public|Elastic|SSPL|BUSL|Commons Clause|Proprietary)", re.I)
EXAMINED = {
    "flagembedding": "MIT, by the file LICENSE of its repository; its metadata name none",
    "psycopg2-binary": "LGPL with exceptions; dagster-postgres uses it unchanged, as a library",
}
"""Distribution → the licence that somebody read, where metadata do not say it or are not enough."""


def installed(extras: tuple[str, ...]) -> set[str]:
    """Return the names of all distributions that rag-assets needs with these extras."""
    found: set[str] = set()
    todo = [("rag-assets", extras)]
    while todo:
        name, wanted = todo.pop()
        for requirement in map(Requirement, metadata.requires(name) or ()):
            environments = [{"extra": extra} for extra in (*wanted, "")]
            marker = requirement.marker
            if marker is None or any(map(marker.evaluate, environments)):
                key = canonicalize_name(requirement.name)
                if key not in found:
                    found.add(key)
                    todo.append((key, tuple(requirement.extras)))
    return found


def licence(name: str) -> str:
    """Return what a distribution's metadata say about its licence."""
    about = metadata.metadata(name)
    classifiers = [c for c in about.get_all("Classifier") or () if c.startswith("License")]
    text = (about.get("License") or "").strip()
    first = text.partition("\n")[0]
    return "; ".join(filter(None, [about.get("License-Expression"), *classifiers, first]))


def test_everything_installed_has_a_licence_that_permits_its_use() -> None:
    licences = {name: licence(name) for name in installed(LOCKS["dev"])}
    refused = {
        name: text
        for name, text in licences.items()
        if name not in EXAMINED and (REFUSED.search(text) or not PERMITTED.search(text))
    }

    assert refused == {}


def locked(name: str) -> dict[str, tuple[Version, int]]:
    """Return distribution → (version, number of hashes) of a lock, for this machine."""
    entries = re.split(r"\n(?=[a-z0-9])", (ROOT / "requirements" / f"{name}.lock").read_text())
    found = {}
    for entry in entries:
        pinned = Requirement(entry.partition("\\")[0])
        if pinned.marker is None or pinned.marker.evaluate():
            version = Version(str(pinned.specifier).removeprefix("=="))
            found[canonicalize_name(pinned.name)] = (version, entry.count("--hash=sha256:"))
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_with_hashes_what_setup_asks_for(name: str) -> None:
    """`make lock` writes the locks anew."""
    pins = locked(name)

    assert min(hashes for _, hashes in pins.values()) > 0
    for requirement in map(Requirement, metadata.requires("rag-assets") or ()):
        environments = [{"extra": extra} for extra in (*LOCKS[name], "")]
        if requirement.name != TORCH and (
            requirement.marker is None or any(map(requirement.marker.evaluate, environments))
        ):
            version, _ = pins[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), requirement


def test_what_is_installed_is_what_is_locked() -> None:
    pins = locked("dev")
    by_torch = {canonicalize_name(Requirement(r).name) for r in metadata.requires(TORCH) or ()}
    names = installed(LOCKS["dev"]) - {TORCH} - (by_torch - pins.keys())

    assert {n: metadata.version(n) for n in names} == {n: str(pins[n][0]) for n in names}
