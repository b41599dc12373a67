"""The glob patterns that select documents by their keys."""

import re
from collections.abc import Iterable

import fsspec.utils

WILDCARD = re.compile(r"[*?\[]")
EXTENSIONS = re.compile(r"(?<=\*)(\.\w+)+$|(?<=[^/])\.\w+$")
"""The extension at the end of a pattern; `.git` is a name, and has none."""


class Patterns:
    """Patterns of keys to include and to exclude.

    They are case-sensitive, as keys are, except for the extension: `**/*.pdf` selects `A.PDF`.
    """

    def __init__(self, include: Iterable[str], exclude: Iterable[str]) -> None:
        include, exclude = list(include), list(exclude)
        self._included, self._excluded = include, exclude
        self._include = [_compiled(glob) for glob in include]
        self._exclude = [_compiled(glob) for glob in exclude]
        # What every key of a pattern begins with, up to its first wildcard.
        self._below = [WILDCARD.split(glob, maxsplit=1)[0].rpartition("/")[0] for glob in include]
        self._whole = [_compiled(glob) for glob in exclude if glob == "**" or glob.endswith("/**")]

    def select(self, key: str) -> bool:
        """Whether a document is selected."""
        return any(p.match(key) for p in self._include) and not any(
            p.match(key) for p in self._exclude
        )

    def left_out(self, key: str) -> str:
        """Return which pattern leaves a document out, in a sentence; empty if none does."""
        for glob, pattern in zip(self._excluded, self._exclude, strict=True):
            if pattern.match(key):
                return f"It is left out by the pattern to exclude `{glob}`."
        if self.select(key):
            return ""
        included = ", ".join(f"`{glob}`" for glob in self._included)
        return f"It matches none of the patterns to include: {included}."

    def enters(self, folder: str) -> bool:
        """Whether a document in a folder, given with a slash at its end, may be selected."""
        if any(pattern.match(folder) for pattern in self._whole):
            return False
        return any(
            folder.startswith(f"{below}/" if below else "") or f"{below}/".startswith(folder)
            for below in self._below
        )


def _compiled(glob: str) -> re.Pattern[str]:
    found = EXTENSIONS.search(glob)
    start = found.start() if found else len(glob)
    extension = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in glob[start:])
    return re.compile(fsspec.utils.glob_translate(glob[:start] + extension))
