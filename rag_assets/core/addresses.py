"""Addresses of sources, lakes and import folders: what a URL or plain path names, taken literally.

A URL parser would take `#1` of `s3://bucket/team#1` for a fragment, and `team` would be indexed: a
folder of somebody else. So nothing is cut off, and what cannot be meant is refused:

- `s3://BUCKET/PREFIX`: everything after the bucket is the prefix, as it is; `%20` is three
  characters.
- `/path` or `path`: the path, as it is.
- `file:///path`: percent-decoded (RFC 8089), so `#`, `?` and `%` are written `%23`, `%3F`, `%25`.
- Any other URL is left to the fsspec file system of its scheme.
"""

import os
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from rag_assets.core.errors import ConfigurationError

FILE, S3 = "file", "s3"
SCHEMES = {"file": FILE, "local": FILE, "s3": S3, "s3a": S3}
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):(?P<slashes>/+)(?P<rest>.*)", re.DOTALL)
_BUCKET = re.compile(r"[A-Za-z0-9._-]+")
_PASSWORD = re.compile(r"[^/?#]*://[^/?#]*:[^/?#]*@")


@dataclass(frozen=True, slots=True)
class Address:
    """A place in one store.

    Attributes:
        scheme: `s3`, `file`, or that of another fsspec file system.
        bucket: The bucket's name; empty unless the scheme is `s3`.
        path: A bucket's key prefix, or a path of the local file system; the whole URL for another
            scheme.
    """

    scheme: str
    bucket: str
    path: str

    @property
    def prefix(self) -> str:
        """What the keys of all objects begin with: empty, or ending in a slash."""
        return f"{self.path}/" if self.path and not self.path.endswith("/") else self.path


def parse_address(url: str) -> Address:
    """Take a URL or plain path apart.

    Raises:
        ConfigurationError: It has parts that the store would ignore or misunderstand.
    """
    if "\0" in url:
        raise ConfigurationError("The address contains a NUL character.")
    found = _URL.fullmatch(url)
    if "::" in url and "://" in url:  # fsspec's chains, such as simplecache::s3://bucket
        return Address(url.partition(":")[0].lower(), "", url)
    if found is None:
        return Address(FILE, "", url)
    scheme, rest = found["scheme"].lower(), found["rest"]
    if len(found["slashes"]) == 1 and SCHEMES.get(scheme) != FILE:
        raise ConfigurationError(
            f"The address begins with `{scheme}:/`: write `{scheme}://`, or `./{scheme}:/` for a"
            " folder of that name."
        )
    match SCHEMES.get(scheme, scheme):
        case "s3":
            return _bucket(found["slashes"][2:] + rest)
        case "file":
            return _file(found["slashes"], rest)
        case _:
            return _other(scheme, url, rest)


def check_address(url: str) -> str:
    """Return an address of a settings or sources file, if it is valid.

    Raises:
        ValueError: It is not, or contains a password.
    """
    if _PASSWORD.match(url):
        raise ValueError(
            "the URL contains a password, and is shown in the UI and stored with the data; set the"
            " password in the options (of a setting: …_OPTIONS), which are never shown"
        )
    try:
        parse_address(url)
    except ConfigurationError as error:
        raise ValueError(str(error)) from error
    return url


def _bucket(rest: str) -> Address:
    bucket, _, path = rest.partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise ConfigurationError(
            "An S3 address is s3://BUCKET/PREFIX, and a bucket's name has only letters, digits,"
            " dots, hyphens and underscores: keys, hosts and ports belong in the options"
            " (key, secret, endpoint_url)."
        )
    return Address(S3, bucket, path)


def _file(slashes: str, rest: str) -> Address:
    host, slash, path = rest.partition("/") if slashes == "//" else ("", "/", rest)
    if host not in ("", "localhost") or not slash:
        raise ConfigurationError(
            "A file URL is file:///PATH, with three slashes and an absolute path; a relative path"
            " is written without file://."
        )
    if "#" in path or "?" in path:
        raise ConfigurationError(
            "A file URL is percent-encoded: write %23 for # and %3F for ?, or a plain path, which"
            " is taken as it is."
        )
    return Address(FILE, "", os.fsdecode(b"/" + unquote_to_bytes(path)))


def _other(scheme: str, url: str, rest: str) -> Address:
    if "#" in rest or "?" in rest:
        raise ConfigurationError(
            f"The {scheme}:// address has a # or ?, which its store may take for something else"
            " than part of a name. Use a folder without."
        )
    return Address(scheme, "", url)
