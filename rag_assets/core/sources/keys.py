"""The rules for keys that can be document ids."""

MAX_KEY_BYTES = 1024  # S3's limit
CONTROL = frozenset(map(chr, [*range(32), 127]))


def key_problem(key: str) -> str | None:
    """Return why a key cannot be a document id, or None if it can.

    A document id is a relative path that stays below the source's root, whichever store or tool
    resolves it, and that can be stored in every table and log.
    """
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "The name is not valid UTF-8. Rename the file."
    if size > MAX_KEY_BYTES:
        return f"The name is {size} bytes long; the limit is {MAX_KEY_BYTES}."
    if CONTROL.intersection(key):
        return "The name contains control characters. Rename the object."
    if key.startswith("/") or any(part in ("", ".", "..") for part in key.split("/")):
        return "The name has empty, `.` or `..` segments and could escape the source's root."
    return None


def valid_text(key: str) -> str:
    """Return a key as valid text, another one for each key.

    A name that is not UTF-8 is escaped, and preceded by a slash: so it is no other file's name.
    """
    try:
        key.encode()
    except UnicodeEncodeError:
        return "/".join(map(_escaped, key.split("/")))
    return key


def _escaped(name: str) -> str:
    if not any("\ud800" <= character <= "\udfff" for character in name):
        return name
    return "/" + name.replace("\\", "\\\\").encode("utf-8", "backslashreplace").decode()
