"""The search page in a browser, over a real service and an index of difficult documents."""

import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from playwright.sync_api import Error, expect

from rag_assets.core.metadata.rules import metadata_rules
from rag_assets.core.reports.explanation import Explanation, Wait
from rag_assets.models.live import read_live
from rag_assets.models.registry import maintained_collections
from rag_assets.pipeline.explanation import Explainer, Versions
from rag_assets_tests.browser.search_page import ANSWERED, SearchPage, Visit
from rag_assets_tests.pipeline.test_metadata import describe
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline
from rag_assets_tests.support.search_service import search_service
from rag_assets_tests.support.variants import variant

FIELDS = metadata_rules(
    {
        "fields": {
            "year": {"type": "integer"},
            "reviewed": {"type": "timestamp"},
            "draft": {"type": "boolean"},
            "tags": {"type": "strings"},
        }
    },
    "metadata.yaml",
)
INJECTED = "<img src=x onerror=alert(1)>"
SCRIPT = "<script>alert(2)</script>"
HOSTILE = f"{INJECTED}.txt"
REVERSED = "invoice\u202efdp.txt"
LONG = f"{'folder-' * 30}end.txt"
HEBREW = "שלום.txt"
EMOJI = "🔥 furnace 👩‍🔬.txt"


class Soon:
    """Knows of one run that everything waits for."""

    run = Wait("It waits for run 4711.", "4711-of-dagster")

    def for_listing(self, _: str) -> Wait:
        return Wait("The next listing will find that.")

    def for_documents(self, _: int) -> Wait:
        return self.run

    def for_rows(self, _: str, __: int) -> Wait:
        return self.run


def explain(pipeline: Pipeline, document_id: str) -> Explanation:
    index, parser = pipeline.index, pipeline.parser()
    versions = Versions(parser.version, parser.code_version, pipeline.chunker().version)
    explainer = Explainer(index, pipeline.sources, versions, Soon(), document_id)
    live = read_live(index)[0].collection or ""
    return explainer.explain(list(maintained_collections(index)), live)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, milvus_lite: str) -> Iterator[Pipeline]:
    """Documents that test the page, in a live collection and in one that finds other things."""
    with Pipeline.create(tmp_path_factory.mktemp("page"), milvus_lite, rules=FIELDS) as created:
        created.write("kiln.md", "# Kiln\n\nThe kiln is fired.\n\n## Friday\n\nNobody works.\n")
        describe(created, "kiln.md", year=2024, reviewed="2024-05-01", draft=False, tags=["a", "b"])
        created.write("copy.md", "# Kiln\n\nThe kiln is fired.\n\n## Monday\n\nAll work.\n")
        describe(created, "copy.md", year=2020, draft=True)
        created.write(HOSTILE, f"{SCRIPT} {INJECTED} [click](javascript:alert(3)) gunpowder\n")
        describe(created, HOSTILE, tags=[f"{INJECTED}<b>"])
        created.write("titled.md", f"# Gunpowder `{SCRIPT}`\n\nIt is kept dry.\n")
        created.write(REVERSED, "An invoice with a name that turns around.\n")
        created.write(LONG, f"Bridges {'w' * 250}\n")
        created.write(HEBREW, "הכבשן בוער ביום שישי, והאש חמה מאוד.\n")
        created.write(EMOJI, "The furnace 🔥 glows, says the scientist 👩‍🔬.\n")
        created.run()
        created.build()
        created.promote()
        created.with_model(variant("blind")).build()
        yield created


@pytest.fixture(scope="module")
def service(index: Pipeline) -> Iterator[httpx2.Client]:
    with search_service(
        index,
        explain=lambda document_id: explain(index, document_id),
        webserver_url="https://dagster.example.com/base/",
    ) as served:
        yield served


@pytest.fixture
def search(visit: Visit, service: httpx2.Client) -> SearchPage:
    found = visit(service)
    found.open()
    return found


def test_everything_can_be_done_with_the_keyboard(search: SearchPage) -> None:
    press = search.page.keyboard.press
    expect(search.question).to_be_focused()
    search.page.keyboard.type("when is the kiln fired?")
    press("Enter")
    search.sees(ANSWERED)
    press("ArrowDown")
    expect(search.hits.nth(0)).to_be_focused()
    for key, place in (("j", 1), ("ArrowDown", 2), ("k", 1), ("ArrowUp", 0), ("k", 0)):
        press(key)
        expect(search.hits.nth(place)).to_be_focused()
    outline = search.hits.nth(0).evaluate("one => getComputedStyle(one).outlineStyle")
    assert outline == "solid"

    press("w")
    search.sees("Everything is in sync")
    press("Escape")
    expect(search.explanation).to_be_hidden()
    press("/")
    expect(search.question).to_be_focused()
    press("Tab")
    press("Tab")
    press("Enter")  # the options
    press("Tab")
    expect(search.page.get_by_label("Filter", exact=True)).to_be_focused()
    press("Escape")
    expect(search.page.get_by_label("Filter", exact=True)).to_be_hidden()
    expect(search.question).to_be_focused()


def test_hits_show_what_there_is_to_know(search: SearchPage) -> None:
    search.ask("when is the kiln fired?")

    best = search.hits.first
    assert set(best.locator("mark").all_inner_texts()) == {"Kiln", "kiln", "fired"}
    expect(best).to_contain_text(re.compile(r"score 0\.\d{4}"))
    expect(best.locator(".path")).to_have_text("Kiln")
    expect(best.get_by_role("list", name="Metadata")).to_contain_text("year")
    expect(best).to_contain_text("file://")
    expect(best.get_by_role("link")).to_have_text("Why?")  # no address of the file system is one
    best.get_by_text("Also in 1 document").click()
    assert {"kiln.md", "copy.md"} == {
        search.documents[0], best.locator(".also .id").inner_text()
    }  # fmt: skip
    best.get_by_text("Neighbours").click()
    expect(best.get_by_role("list", name="Neighbours").get_by_role("listitem")).to_have_count(2)
    best.get_by_text("Section", exact=True).click()
    expect(best.get_by_role("list", name="Section").get_by_role("listitem")).to_have_count(1)


def test_nothing_in_a_document_is_executed_or_becomes_a_part_of_the_page(
    search: SearchPage,
) -> None:
    search.ask(f"gunpowder {INJECTED}")

    hit = search.hits.filter(has_text="click")
    expect(hit.locator(".text")).to_contain_text(SCRIPT)
    expect(hit.locator(".text")).to_contain_text(INJECTED)
    expect(hit.locator("h3")).to_have_text(INJECTED + ".txt")
    expect(hit.get_by_role("list", name="Metadata")).to_contain_text(f"{INJECTED}<b>")
    titled = search.hits.filter(has_text="kept dry")
    expect(titled.locator("h3")).to_contain_text(SCRIPT)
    hit.get_by_role("link", name="Why?").click()
    search.sees("Everything is in sync")
    assert search.page.locator("img, main script, b:has-text('onerror')").count() == 0
    with pytest.raises(Error, match="TrustedHTML"):  # not even a script could
        search.page.evaluate("document.body.innerHTML = '<img src=x>'")
    [refused] = search.noted
    assert "TrustedHTML" in refused
    search.noted.clear()


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "file:///a", "//x"])
def test_only_addresses_of_the_web_become_links(search: SearchPage, address: str) -> None:
    kind = """async (address) => {
        const { place } = await import("/page/dom.js");
        return place(address)[0].tagName;
    }"""

    assert search.page.evaluate(kind, address) == "SPAN"
    assert search.page.evaluate(kind, "https://example.com/a?b#c") == "A"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_long_names_other_scripts_and_emoji_without_scrolling_aside(
    search: SearchPage, scheme: Any
) -> None:
    search.page.emulate_media(color_scheme=scheme)
    search.page.set_viewport_size({"width": 360, "height": 740})
    for question, name in (
        ("bridges", LONG),
        ("הכבשן בוער", HEBREW),
        ("glowing furnace 🔥", EMOJI),
        ("an invoice", "invoice\\u202efdp.txt"),  # as it is, not as it would look
    ):
        search.open(q=question)
        search.sees(ANSWERED)
        assert search.documents[0] == name
        assert search.is_within(360)
    search.open(q="הכבשן בוער", versus="", explain=HEBREW)
    search.sees("Everything is in sync")
    assert search.is_within(360)
    direction = search.page.locator(".text").first.evaluate("e => getComputedStyle(e).direction")
    assert direction == "rtl"
    search.page.keyboard.press("Escape")
    search.open_options()
    assert search.is_within(360)


def add_comparison(search: SearchPage, field: str, operator: str, value: str) -> None:
    page = search.page
    page.get_by_label("Field").select_option(field)
    page.get_by_label("Operator").select_option(operator)
    entry = page.get_by_label("Value", exact=True)
    if entry.evaluate("one => one.tagName") == "SELECT":
        entry.select_option(value)
    else:
        entry.fill(value)
    page.get_by_role("button", name="Add").click()


def test_a_filter_is_built_from_the_declared_fields(search: SearchPage) -> None:
    search.ask("kiln")
    search.open_options()
    where = search.page.get_by_label("Filter", exact=True)

    for field, operator, value, text in (
        ("year", ">=", "2023", "year >= 2023"),
        ("year", "in", "2024, 7", "year in [2024, 7]"),
        ("reviewed", ">", "2024-01-31", 'reviewed > "2024-01-31"'),
        ("draft", "==", "false", "draft == false"),
        ("tags", "in", 'b, "c', 'tags in ["b", "\\"c"]'),
    ):
        where.fill("")
        add_comparison(search, field, operator, value)
        expect(where).to_have_value(text)
        search.ask()
        assert set(search.documents) == {"kiln.md"}

    where.fill("year == 2020 or year == 2024")
    add_comparison(search, "draft", "==", "true")
    expect(where).to_have_value("(year == 2020 or year == 2024) and draft == true")
    search.ask()
    assert set(search.documents) == {"copy.md"}
    search.sees("Filters and options (1 set)")
    search.page.get_by_label("Documents whose id begins with").fill("kil")
    search.page.get_by_label("Hits").fill("1")
    search.ask()
    search.sees("Nothing was found")
    search.sees("(3 set)")
    expect(search.page.get_by_label("Who asks")).to_be_hidden()  # there are no permissions
    expect(search.page.get_by_label("Rerank")).to_be_hidden()


def test_a_link_has_the_whole_state_and_back_works(search: SearchPage) -> None:
    search.ask("kiln")
    search.open(q="kiln", where="year == 2024", separate="yes", limit="2", hybrid="off")
    search.finds(2)
    expect(search.page.get_by_label("Show equal texts separately")).to_be_checked()
    shared = search.page.url
    search.open_options()
    search.page.get_by_label("Filter", exact=True).fill("year == 1999")
    search.ask("invoice")
    search.finds(0)
    search.page.go_back()
    search.finds(2)
    assert search.page.url == shared
    expect(search.question).to_have_value("kiln")
    search.hits.first.get_by_role("link", name="Why?").click()
    search.sees("Everything is in sync")
    search.page.go_back()
    expect(search.explanation).to_be_hidden()
    search.page.reload()
    search.finds(2)


def test_two_collections_are_compared(search: SearchPage, index: Pipeline) -> None:
    blind = index.with_model(variant("blind")).collection
    search.ask("when is the kiln fired?")
    search.open_options()
    search.page.get_by_label("Hits").fill("4")
    search.page.get_by_label("Compare with").select_option(blind)
    search.ask()
    search.sees("4 and 4 hits")

    live, candidate = search.page.locator("#answer section").all()
    expect(live.locator("h2")).to_have_text(f"live {WORDLLAMA} {index.collection}")
    expect(candidate.locator("h2")).to_have_text(f"candidate blind-v1 {blind}")
    places = [
        {
            one.locator(".id").first.inner_text() + one.locator(".text").inner_text(): (
                rank,
                one.locator(".head .badge").inner_text().split("\n")[0].partition(":")[0],
            )
            for rank, one in enumerate(column.get_by_role("article").all())
        }
        for column in (live, candidate)
    ]
    before, after = places
    for text, (rank, mark) in after.items():
        if text not in before:
            assert mark == "new"
        else:
            risen = before[text][0] - rank
            expected = f"↑{risen}" if risen > 0 else f"↓{-risen}" if risen else "="
            assert mark == before[text][1] == expected
    assert all(mark == "gone" for text, (_, mark) in before.items() if text not in after)
    side = "one => one.getBoundingClientRect().left"
    assert candidate.evaluate(side) > live.evaluate(side)
    search.page.set_viewport_size({"width": 360, "height": 740})
    assert candidate.evaluate(side) == live.evaluate(side)
    assert search.is_within(360)


def test_a_document_is_explained_with_the_question_and_any_other_too(
    visit: Visit, service: httpx2.Client
) -> None:
    search = visit(service)
    search.open(q="when is the kiln fired?")
    search.hits.first.get_by_role("link", name="Why?").click()

    dialog = search.explanation
    expect(dialog.locator(".verdict")).to_contain_text("Everything is in sync")
    states = dialog.locator(".step .badge").all_inner_texts()
    assert set(states) == {"in sync"}
    expect(dialog.get_by_role("row").nth(1)).to_contain_text(re.compile(r"similarity.*1 of \d+"))
    links = dialog.locator(".facts a").evaluate_all("all => all.map((one) => one.href)")
    assert all(link.startswith("https://dagster.example.com/base/assets/") for link in links)
    partition = re.compile(rf"/assets/collection\?partition={WORDLLAMA}%7Cs00\d&view=partitions$")
    assert any(partition.search(link) for link in links)

    dialog.get_by_label("Document").fill("nowhere.md")
    dialog.get_by_role("button", name="Explain").click()
    expect(dialog.locator(".verdict")).to_contain_text("the source does not have it")
    expect(dialog.locator(".step .badge.missing").first).to_have_text("missing")
    expect(dialog).to_contain_text("has no rows of it")


def test_a_step_that_waits_leads_to_its_run(
    visit: Visit, service: httpx2.Client, index: Pipeline
) -> None:
    index.write("later.md", "# Later\n\nIt has not been parsed yet.\n")
    index.list_all()
    try:
        search = visit(service)
        search.open(explain="later.md")
        expect(search.explanation.locator(".verdict")).to_contain_text("It waits for run 4711.")
        run = search.explanation.get_by_role("link", name="run 4711-of-").first
        assert run.get_attribute("href") == "https://dagster.example.com/base/runs/4711-of-dagster"
    finally:
        index.remove("later.md")
        index.run()


def test_what_is_wrong_is_said_with_the_requests_id(visit: Visit, service: httpx2.Client) -> None:
    search = visit(service, refusals={400})
    search.open(q="kiln", where="nothing == 1")

    search.sees(re.compile(r"There is no field 'nothing'.*\(Request [0-9a-f]{32}\)"))
    search.finds(0)
    search.open(q="kiln", collection="dropped__long_ago")
    search.sees("There is no collection 'dropped__long_ago' to search")
    search.open(q="kiln")
    search.sees(ANSWERED)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_has_a_name_and_enough_contrast(
    search: SearchPage, index: Pipeline, scheme: Any
) -> None:
    search.page.emulate_media(color_scheme=scheme)
    search.open(q="kiln", versus=index.with_model(variant("blind")).collection)
    search.sees(re.compile("10 and 10 hits"))
    search.open_options()
    for document in (None, "nowhere.md"):
        if document:
            search.open(q="kiln", explain=document)
            expect(search.explanation.locator(".verdict")).to_be_visible()
        contrasts, nameless = search.presented()
        assert nameless == []
        assert len(contrasts) > 30
        assert [found for found in contrasts if found[0] < 4.5] == []
