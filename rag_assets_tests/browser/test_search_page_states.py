"""The search page while the service has no answer: without a token, busy, or with nothing live."""

import re
import threading
from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from rag_assets.core.documents.chunking import ChunkLimits
from rag_assets.serving.searcher import Answer, Searcher
from rag_assets_tests.browser.search_page import ANSWERED, Visit
from rag_assets_tests.pipeline.test_metadata import RULES, describe
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.search_service import ANN, SECRET, TOKENS, search_service


def test_a_token_is_asked_for_kept_in_the_tab_and_forgotten(
    tmp_path: Path, milvus_lite: str, visit: Visit
) -> None:
    with Pipeline.create(tmp_path, milvus_lite, rules=RULES) as guarded:
        guarded.write("hr/salary.md", f"# Salary\n\n{SECRET}.\n")
        describe(guarded, "hr/salary.md", principals=["user:ann"])
        guarded.fill(0)
        guarded.promote()
        with search_service(guarded, serve_tokens=TOKENS) as client:
            search = visit(client, refusals={401, 403})
            entry = search.page.get_by_label("This service asks for a token")
            search.open(q="salary")
            expect(entry).to_be_focused()
            entry.fill("wrong-token-of-sixteen")
            entry.press("Enter")
            search.sees(re.compile(r"token.*\(Request [0-9a-f]{32}\)"))
            entry.fill(ANN["Authorization"].removeprefix("Bearer "))
            entry.press("Enter")
            search.sees(SECRET)
            expect(entry).to_be_hidden()

            search.page.reload()
            search.sees(SECRET)
            assert search.page.evaluate("[document.cookie, localStorage.length]") == ["", 0]
            search.open_options()
            expect(search.page.get_by_label("Compare with")).to_be_hidden()  # she is no operator
            search.page.get_by_label("Who asks").fill(",")
            search.ask()
            search.sees("Nothing was found")
            search.page.get_by_label("Who asks").fill("user:bob")
            search.question.press("Enter")
            search.sees("Your token does not let you search for user:bob")
            search.page.get_by_role("button", name="Forget token").click()
            expect(entry).to_be_focused()
            assert search.page.evaluate("sessionStorage.length") == 0
            assert SECRET not in search.page.content()


class Held(Searcher):
    """Answers when it is let go."""

    begun, go_on = threading.Event(), threading.Event()

    def answer(self, question: Any) -> Answer:
        self.begun.set()
        assert self.go_on.wait(60)
        return super().answer(question)


def test_while_the_service_is_busy_the_page_says_so_and_asks_again(
    pipeline: Pipeline, visit: Visit
) -> None:
    pipeline.fill(2)
    pipeline.promote()
    with search_service(pipeline, kind=Held, serve_concurrency=1, serve_queue=0) as client:
        search = visit(client, refusals={429})
        search.open()
        search.sees("live")
        asking = threading.Thread(
            target=client.post, args=("/v1/search",), kwargs={"json": {"question": "kiln"}}
        )
        asking.start()
        try:
            assert Held.begun.wait(60)
            search.question.fill("kiln")
            search.question.press("Enter")
            search.sees(re.compile(r"The service is busy.*Trying again in \d s"))
        finally:
            Held.go_on.set()
            asking.join()
        search.sees(ANSWERED)


def test_while_nothing_is_live_the_page_says_so_and_answers_as_soon_as_something_is(
    pipeline: Pipeline, visit: Visit
) -> None:
    pipeline.write("a.md", "# Kiln\n\nThe kiln is fired on Fridays.\n")
    pipeline.run()
    pipeline.build()
    with search_service(pipeline, ready=False) as client:
        search = visit(client, refusals={503})
        search.open(q="kiln")
        search.sees("Nothing is live yet.")
        search.question.fill("something else")

        pipeline.promote()
        search.finds(1)
        expect(search.question).to_have_value("something else")  # what is being typed is kept
        search.sees("a.md")


def test_a_chunk_of_64_kb_is_shown_in_part_until_all_of_it_is_asked_for(
    pipeline: Pipeline, visit: Visit
) -> None:
    pipeline.limits = ChunkLimits(characters=64_000, tokens=60_000)
    for number in range(20):
        lines = (f"kilns{number} and kilns{place} " * 20 for place in range(180))
        pipeline.write(f"{number}.txt", "\n".join(lines)[:63_000] + "\nkiln")
    pipeline.fill(0)
    pipeline.promote()
    with search_service(pipeline) as client:
        search = visit(client)
        search.open(q="kiln", limit=20)
        search.finds(20)
        text = search.hits.first.locator(".text")
        assert len(text.inner_text()) < 2000
        expect(text.locator("mark")).to_have_text("kiln")  # wherever it is
        search.hits.first.get_by_role("button", name="Show all").click()
        assert len(text.inner_text()) > 60_000
        expect(search.hits.first.get_by_role("button", name="Show all")).to_have_count(0)
