"""The two requests of S3 that listing a large bucket needs, fast enough to measure the client.

moto's server sorts all keys for every page: 300,000 objects would take it half an hour a listing.
ListObjectsV2: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

import sys
from bisect import bisect_right, insort
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000
KEYS: list[str] = []


def listing(query: dict[str, list[str]]) -> bytes:
    """Return a page of the listing after the token or key given."""
    prefix = query.get("prefix", [""])[0]
    after = query.get("continuation-token", query.get("start-after", [""]))[0]
    size = min(int(query.get("max-keys", [str(PAGE)])[0]), PAGE)
    begin = bisect_right(KEYS, after) if after else 0
    found = [key for key in KEYS[begin : begin + size] if key.startswith(prefix)]
    more = begin + size < len(KEYS)
    entries = "".join(
        f"<Contents><Key>{escape(quote(key))}</Key><LastModified>2026-01-01T00:00:00.000Z"
        f"</LastModified><ETag>&quot;{md5(key.encode()).hexdigest()}&quot;</ETag><Size>1234</Size>"
        "<StorageClass>STANDARD</StorageClass></Contents>"
        for key in found
    )
    token = f"<NextContinuationToken>{escape(found[-1])}</NextContinuationToken>" if more else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>big</Name>'
        f"<EncodingType>url</EncodingType><KeyCount>{len(found)}</KeyCount><MaxKeys>{size}"
        f"</MaxKeys><IsTruncated>{str(more).lower()}</IsTruncated>{entries}{token}"
        "</ListBucketResult>"
    ).encode()


class Handler(BaseHTTPRequestHandler):
    """Lists, and takes new keys."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a listing."""
        self._answer(listing(parse_qs(urlsplit(self.path).query)))

    def do_PUT(self) -> None:
        """Take a key; its content does not matter."""
        self.rfile.read(int(self.headers["Content-Length"]))
        insort(KEYS, unquote(urlsplit(self.path).path).removeprefix("/big/"))
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    port, objects = map(int, sys.argv[1:])
    KEYS += sorted(f"docs/{number % 997:03}/{number:07}.md" for number in range(objects))
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print("ready", flush=True)
    server.serve_forever()
