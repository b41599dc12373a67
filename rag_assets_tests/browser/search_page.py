"""The search page as people use it, and what it may never do."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from playwright.sync_api import ConsoleMessage, Locator, Page, expect

REFUSAL = re.compile(r"^Failed to load resource: .* status of (\d{3}) ")
ANSWERED = re.compile(r"(\d hits?|Nothing was found) in \d+\.\d\d s")
expect.set_options(timeout=60_000)  # nothing depends on a quiet machine


PRESENTED = """() => {
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = (rgb) => rgb.slice(0, 3).map((one) => one / 255)
        .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
        .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
    const behind = (one) => {
        const found = rgb(getComputedStyle(one).backgroundColor);
        return found[3] === 0 && one.parentElement ? behind(one.parentElement) : found;
    };
    const shown = [...document.querySelectorAll("body *")].filter((one) => one.checkVisibility());
    const written = shown.filter((one) =>
        one.matches("input, select") || [...one.childNodes].some((node) => node.nodeValue?.trim()));
    const contrasts = written.map((one) => {
        const [a, b] = [rgb(getComputedStyle(one).color), behind(one)].map(light);
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.outerHTML.slice(0, 80)];
    });
    const nameless = shown.filter((one) => one.matches("button, input, select, a") &&
        !(one.labels?.length || one.ariaLabel || one.textContent.trim()));
    return [contrasts, nameless.map((one) => one.outerHTML)];
}"""
"""Returns the contrast of each text, and the controls without a name."""


@dataclass
class SearchPage:
    """The page in a browser window.

    Attributes:
        page: The window.
        url: The address of the service.
        refusals: Statuses that the browser may note as errors, because the test provokes them.
        requested: The addresses that it has requested.
        noted: The errors that the browser has noted.
    """

    page: Page
    url: str
    refusals: set[int] = field(default_factory=set)
    requested: list[str] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.noted.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("dialog", lambda dialog: self.noted.append(f"dialog: {dialog.message}"))

    def _note(self, message: ConsoleMessage) -> None:
        refused = REFUSAL.match(message.text)
        if message.type == "error" and not (refused and int(refused[1]) in self.refusals):
            self.noted.append(message.text)

    def check(self) -> None:
        """No error was noted, and nothing was requested from anywhere but the service."""
        assert self.noted == []
        assert [url for url in self.requested if not url.startswith(f"{self.url}/")] == []
        assert "?" not in "".join(self.requested)  # what is asked is in no server's log

    def open(self, **state: Any) -> None:
        """Open a link to a state of the page, as if in a new window."""
        self.page.goto("about:blank")
        self.requested.clear()
        self.page.goto(f"{self.url}/#{urlencode(state)}")

    def ask(self, question: str | None = None) -> None:
        """Ask a question, or the present one again, and wait for the answer."""
        if question is not None:
            self.question.fill(question)
        with self.page.expect_response(f"{self.url}/v1/search"):
            self.question.press("Enter")
        self.sees(ANSWERED)

    def open_options(self) -> None:
        self.page.get_by_text("Filters and options").click()

    def sees(self, text: str | re.Pattern[str]) -> None:
        expect(self.page.get_by_text(text).filter(visible=True).first).to_be_visible()

    def finds(self, count: int) -> None:
        """The answer is there, with so many hits."""
        expect(self.hits).to_have_count(count)

    @property
    def question(self) -> Locator:
        return self.page.get_by_role("searchbox", name="Question")

    @property
    def hits(self) -> Locator:
        return self.page.get_by_role("article")

    @property
    def documents(self) -> list[str]:
        """The ids of the hits."""
        return self.page.locator(".source .id").all_inner_texts()

    @property
    def explanation(self) -> Locator:
        return self.page.get_by_role("dialog")

    def is_within(self, width: int) -> bool:
        """Whether the page needs no scrolling to the side."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth") <= width)

    def presented(self) -> tuple[list[tuple[float, str]], list[str]]:
        """The contrast of each text that is shown, and the controls that have no name."""
        contrasts, nameless = self.page.evaluate(PRESENTED)
        return [tuple(one) for one in contrasts], nameless


Visit = Callable[..., SearchPage]
