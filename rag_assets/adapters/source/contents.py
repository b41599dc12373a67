"""The bytes of a document: read up to a limit, and decoded as the store says they are encoded."""

import zlib
from typing import Any

import aiohttp
import fsspec.asyn
import s3fs
from botocore.exceptions import BotoCoreError

from rag_assets.core.errors import DocumentTooLargeError, DocumentUnreadableError

CHUNK = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
GZIP = frozenset({"gzip", "x-gzip"})
UNKNOWN = frozenset({"br", "compress", "deflate", "zstd"})  # anything else is a misuse, and no code


def check_size(content: bytes | bytearray, limit: int) -> None:
    """Compare a content with the limit in bytes.

    Raises:
        DocumentTooLargeError: It is larger.
    """
    if len(content) > limit:
        raise DocumentTooLargeError(f"The content is larger than the limit of {limit} bytes.")


def decoded(content: bytes, encoding: str, limit: int) -> bytes:
    """Undo a `Content-Encoding`.

    Args:
        content: The bytes as stored.
        encoding: The value of the header, such as `gzip` or `aws-chunked,gzip`; may be empty.
        limit: Maximum number of bytes, decoded.

    Raises:
        DocumentTooLargeError: There would be more.
        DocumentUnreadableError: The content is damaged, or the encoding not supported.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    if unknown := UNKNOWN.intersection(names):
        raise DocumentUnreadableError(
            f"It is stored with Content-Encoding {', '.join(unknown)}, which is not supported."
            " Store it without, or as gzip."
        )
    is_gzip = content.startswith(GZIP_MAGIC) and not GZIP.isdisjoint(names)
    return _gunzipped(content, limit) if is_gzip else content


def _gunzipped(content: bytes, limit: int) -> bytes:
    found = bytearray()
    while content:
        member = zlib.decompressobj(wbits=31)
        try:
            found += member.decompress(content, limit + 1 - len(found))
        except zlib.error as error:
            raise DocumentUnreadableError(f"The gzip encoding is damaged: {error}.") from error
        check_size(found, limit)
        if not member.eof:
            raise DocumentUnreadableError("The gzip encoding is incomplete.")
        content = member.unused_data.lstrip(b"\0")
    return bytes(found)


def read_s3_object(fs: s3fs.S3FileSystem, bucket: str, key: str, limit: int) -> tuple[bytes, str]:
    """Fetch an object's decoded content and its ETag in one request, so that they are consistent.

    Raises:
        DocumentTooLargeError: It is larger than the limit.
        DocumentUnreadableError: The body was not transmitted whole, or cannot be decoded.
        OSError: The request failed, as s3fs reports it.
        BotoCoreError: The request failed without an answer.
    """

    async def fetch() -> tuple[bytes, dict[str, Any]]:
        response = await fs._call_s3("get_object", Bucket=bucket, Key=key)
        found = bytearray()
        async with response["Body"] as body:
            try:
                while len(found) <= limit and (chunk := await body.read(CHUNK)):
                    found += chunk
            except (OSError, BotoCoreError, aiohttp.ClientError) as error:
                raise DocumentUnreadableError(f"It was not transmitted whole: {error}.") from error
        return bytes(found), response

    content, response = fsspec.asyn.sync(fs.loop, fetch)
    check_size(content, limit)
    return decoded(content, response.get("ContentEncoding") or "", limit), response["ETag"]
