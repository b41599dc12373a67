"""Files named `package:MODULE/PATH`: data that ships with an installed Python package."""

from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path

from rag_assets.core.errors import ConfigurationError

PREFIX = "package:"


def local_path(name: str) -> Path:
    """Return the file path for a `package:` name or an ordinary path.

    Raises:
        ConfigurationError: The package is not installed.
    """
    if not name.startswith(PREFIX):
        return Path(name)
    module, _, inside = name.removeprefix(PREFIX).partition("/")
    try:
        found = find_spec(module)
    except ImportError:  # a parent package of a dotted name is missing
        found = None
    if found is None or found.origin is None:
        raise ConfigurationError(
            f"{name} needs the Python package {module!r}, which is not installed."
        )
    return Path(found.origin).parent / inside


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigurationError(f"Cannot read {path}: {error.strerror}.") from error
