"""The contract of every source, on Google Cloud Storage and Azure Blob Storage: their emulators.

`make clouds` installs the emulators and fsspec's implementations into `.clouds`, beside the
environment of all other tests, and runs this file; no other run collects it.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest

CLOUDS = Path(__file__).parents[2] / ".clouds"
sys.path.append(str(CLOUDS / "python"))  # after the environment's own packages
os.environ["GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"] = "false"  # it needs gRPC, which no emulator has

from rag_assets.adapters.source.source import Source  # noqa: E402
from rag_assets.adapters.source.stores import open_store  # noqa: E402
from rag_assets.core.errors import DocumentGoneError, SourceError  # noqa: E402
from rag_assets_tests.adapters.source.test_source import (  # noqa: E402
    NOTHING,
    Place,
    test_a_document_beyond_the_limit_is_listed_with_its_problem,
    test_a_listing_has_key_version_size_and_time,
    test_a_version_changes_with_the_content_and_only_with_it,
    test_a_window_ends_after_its_time_and_begins_where_it_is_told,
    test_an_odd_name_is_listed_read_and_addressed,
    test_looking_documents_up_gives_what_a_listing_gives,
    test_many_documents_are_read_in_their_order_with_those_that_are_gone,
    test_only_desired_documents_are_listed,
    test_patterns_choose_what_is_listed,
    test_the_case_of_an_extension_does_not_matter_and_that_of_a_name_does,
    test_what_is_read_has_the_version_of_the_listing,
    test_windows_one_after_another_list_everything_once,
)
from rag_assets_tests.support.milvus_servers import free_ports  # noqa: E402
from rag_assets_tests.support.waiting import answered  # noqa: E402

__all__ = [
    "test_a_document_beyond_the_limit_is_listed_with_its_problem",
    "test_a_listing_has_key_version_size_and_time",
    "test_a_version_changes_with_the_content_and_only_with_it",
    "test_a_window_ends_after_its_time_and_begins_where_it_is_told",
    "test_an_odd_name_is_listed_read_and_addressed",
    "test_looking_documents_up_gives_what_a_listing_gives",
    "test_many_documents_are_read_in_their_order_with_those_that_are_gone",
    "test_only_desired_documents_are_listed",
    "test_patterns_choose_what_is_listed",
    "test_the_case_of_an_extension_does_not_matter_and_that_of_a_name_does",
    "test_what_is_read_has_the_version_of_the_listing",
    "test_windows_one_after_another_list_everything_once",
]

EMULATED = (  # the account and key that every installation of Azurite has
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmE"
    "tlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
    "BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
)


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[None]:
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    [port] = free_ports(1)
    start = (
        f"import sys; sys.path.append({str(CLOUDS / 'python')!r});"
        "from gcp_storage_emulator.server import create_server;"
        f"create_server('127.0.0.1', {port}, in_memory=True).run()"
    )
    with running([sys.executable, "-c", start], tmp_path_factory.mktemp("gcs")):
        endpoint = f"http://127.0.0.1:{port}"
        yield {"endpoint_url": endpoint, "token": "anon", "project": "tests"}


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    [port] = free_ports(1)
    program = CLOUDS / "node_modules" / ".bin" / "azurite-blob"
    folder = tmp_path_factory.mktemp("azure")
    options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
    address = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder)]
    with running([str(program), *address, *options], folder):
        yield {"connection_string": EMULATED.format(port=port)}


@pytest.fixture(params=["gcs", "azure"])
def place(request: pytest.FixtureRequest) -> Place:
    options: dict[str, Any] = request.getfixturevalue(request.param)
    scheme = {"gcs": "gs", "azure": "abfs"}[request.param]
    fs, bucket = fsspec.filesystem(scheme, **options), f"bucket{uuid4().hex}"
    answered(lambda: fs.mkdir(bucket), Exception)
    root = f"{bucket}/docs"
    return Place(
        f"{scheme}://{root}",
        options,
        lambda key, content: fs.pipe_file(f"{root}/{key}", content),
        lambda key: fs.rm_file(f"{root}/{key}"),
        (lambda key: key.replace("\\", "/")) if scheme == "abfs" else str,
    )


def test_a_document_that_is_gone_is_not_listed(place: Place) -> None:
    for key in ("a.md", "b.md"):
        place.put(key, b"x")
    source = place.open()
    before = source.listing(NOTHING).files
    place.delete("a.md")

    assert source.listing(before).files["document_id"].to_list() == ["b.md"]
    with pytest.raises(DocumentGoneError):
        source.read("a.md")


def test_a_bucket_or_folder_that_is_not_there_is_not_an_empty_source(place: Place) -> None:
    # Nor is one whose last object was deleted, which these stores do not tell apart.
    place.put("a.md", b"x")

    for url in (place.url.replace("bucket", "nobucket"), f"{place.url}-not"):
        with pytest.raises(SourceError, match="does not exist"):
            Source(open_store(url, place.options), max_bytes=10).listing(NOTHING)
