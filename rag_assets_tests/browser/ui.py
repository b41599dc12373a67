"""Dagster's pages as a person uses them: by what is written on them."""

import re
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from rag_assets.cli import services as dev

SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
SEARCH_URL = "http://search.example.com/"
LOCATION = "/locations/rag_assets.definitions"
RUN_ENDS_WITHIN = 300_000  # ms


@dataclass(frozen=True)
class Ui:
    """One browser window."""

    page: Page
    port: int

    def open(self, path: str) -> None:
        self.page.goto(f"http://{dev.HOST}:{self.port}{path}")

    def button(self, text: str) -> Locator:
        return self.page.locator("button", has_text=re.compile(text)).first

    def see(self, text: str, *, exactly: bool = False, within: float = 60_000) -> None:
        """Wait until a text is shown, as part of another or exactly."""
        shown = self.page.get_by_text(text, exact=exactly).first
        expect(shown).to_be_visible(timeout=within)

    def follow_toast(self) -> None:
        """Go to what the message about a launch leads to."""
        self.page.get_by_text("View", exact=True).last.click()

    def fill_config(self, yaml: str) -> None:
        """Replace what is in the launchpad's editor."""
        editor = self.page.locator(".CodeMirror:visible").last
        editor.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(yaml)

    def menu(self, button: str, entry: str) -> None:
        """Choose from the menu behind the arrow beside a button."""
        self.button(button).locator("xpath=following::button[1]").click()
        self.page.get_by_role("menuitem", name=entry).click()
