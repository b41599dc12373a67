"""A running platform with some content, and a real browser on its UI."""

import shutil
from collections.abc import Iterator

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Page, sync_playwright

from rag_assets_tests.browser.search_page import SearchPage, Visit
from rag_assets_tests.browser.ui import SCREENSHOTS, SEARCH_URL, Ui
from rag_assets_tests.scenarios.platform import Platform, running_platform
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.hostile import hostile_files
from rag_assets_tests.support.requirements import missing

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Platform]:
    """Twelve documents and a poisoned one, indexed by a live model."""
    home = tmp_path_factory.mktemp("platform")
    with running_platform(home, s3_endpoint, RAG_ASSETS_SEARCH_URL=SEARCH_URL) as created:
        for number in range(12):
            created.put(f"{number:02}.md", document(f"d{number}", sections=2))
        created.put("poison.html", hostile_files()["deep.html"][0])
        created.await_convergence()
        created.await_live()
        created.await_idle()
        yield created


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    """Debian's Chromium, without a screen; it compiles the UI's scripts once for all tests."""
    executable = shutil.which("chromium")
    if executable is None:
        reason = "There is no chromium here: `make chromium` installs Debian's, as root."
        missing(reason)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield launched.new_context(viewport={"width": 1400, "height": 900}, reduced_motion="reduce")
        launched.close()


@pytest.fixture
def page(browser: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A new window; how it looks at the end of the test is kept."""
    opened = browser.new_page()
    opened.set_default_timeout(60_000)
    yield opened
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    opened.screenshot(path=SCREENSHOTS / f"{request.node.name.removeprefix('test_')}.png")
    opened.close()


@pytest.fixture
def ui(platform: Platform, page: Page) -> Ui:
    return Ui(page, platform.port)


@pytest.fixture
def visit(page: Page) -> Iterator[Visit]:
    """Opens the page of a service; at the end, it has done nothing that it may not do."""
    opened: list[SearchPage] = []

    def visited(client: httpx2.Client, *, refusals: set[int] | None = None) -> SearchPage:
        opened.append(SearchPage(page, str(client.base_url).rstrip("/"), refusals or set()))
        return opened[-1]

    yield visited
    for one in opened:
        one.check()
