"""The files of the search page over HTTP: whether they come with the package, and how."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import httpx2
import pytest

from rag_assets.core.errors import NotLiveError
from rag_assets.serving.page import FOLDER, TYPES
from rag_assets.serving.service.app import create_app
from rag_assets.settings import Settings
from rag_assets_tests.support.search_service import TOKENS, running

ROOT = Path(__file__).parents[2]
NAMES = sorted(path.name for path in FOLDER.iterdir() if path.suffix in TYPES)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx2.Client]:
    """A service that asks for tokens, before there is anything to search."""

    def nothing(_: object) -> NoReturn:
        raise NotLiveError("Nothing is live.")

    with running(create_app(Settings(serve_tokens=TOKENS), nothing)) as served:
        yield served


@pytest.mark.parametrize("path", ["/", *(f"/page/{name}" for name in NAMES)])
def test_every_file_is_served_without_a_token_and_treated_strictly(
    client: httpx2.Client, path: str
) -> None:
    response = client.get(path)

    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(TYPES[Path(path).suffix or ".html"])
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    policy = response.headers["Content-Security-Policy"].split("; ")
    assert "default-src 'self'" in policy
    assert {"frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'"} <= set(policy)
    assert "unsafe" not in str(policy)
    head = client.head(path)
    assert (head.status_code, head.content) == (200, b"")


def test_a_file_that_is_known_by_its_etag_is_not_sent_again(client: httpx2.Client) -> None:
    first = client.get("/page/page.js")
    etag = first.headers["ETag"]

    for known in (etag, f"W/{etag}", f'"another", {etag}'):
        again = client.get("/page/page.js", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["ETag"] == etag
    assert client.get("/page/page.js", headers={"If-None-Match": '"another"'}).content
    assert client.get("/page/page.css").headers["ETag"] != etag
    assert first.headers["Cache-Control"] == "no-cache"  # but it is asked for after an upgrade


@pytest.mark.parametrize(
    "name", ["__init__.py", "../__init__.py", "%2e%2e/routes.py", "nothing.js", "", "index.html/x"]
)
def test_nothing_else_of_the_package_is_served(client: httpx2.Client, name: str) -> None:
    response = client.get(f"/page/{name}")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"


def test_the_page_loads_nothing_from_elsewhere_and_has_no_script_or_style_of_its_own() -> None:
    page = (FOLDER / "index.html").read_text()

    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert {name.removeprefix("page/") for name in loaded} <= set(NAMES)
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=", page)
    for name in NAMES:
        text = (FOLDER / name).read_text()
        assert "@import" not in text
        assert set(re.findall(r'\bfrom "([^"]*)"', text)) <= {f"./{other}" for other in NAMES}
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text)


def test_a_build_of_the_package_has_every_file(tmp_path: Path) -> None:
    for name in ("setup.py", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(FOLDER, tmp_path / "rag_assets" / "serving" / "page")
    for folder in ("", "serving"):
        shutil.copy(ROOT / "rag_assets" / folder / "__init__.py", tmp_path / "rag_assets" / folder)

    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_py", "--build-lib", "built"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )

    built = tmp_path / "built" / "rag_assets" / "serving" / "page"
    assert {path.name for path in built.iterdir()} == {*NAMES, "__init__.py"}
