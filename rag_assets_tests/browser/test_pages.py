"""What a data engineer does in the UI, done in a browser against a running platform."""

import re
from urllib.parse import urlencode

import pytest
from playwright.sync_api import expect

from rag_assets.cli import services as dev
from rag_assets.cli.serving.explaining import open_explanations
from rag_assets.core.reports.explanation import Explanation
from rag_assets.serving.service.app import create_app
from rag_assets_tests.browser.ui import LOCATION, RUN_ENDS_WITHIN, SEARCH_URL, Ui
from rag_assets_tests.scenarios.environment import MODELS
from rag_assets_tests.scenarios.platform import Platform
from rag_assets_tests.support.search_service import running
from rag_assets_tests.support.waiting import awaited

LIVE, CANDIDATE = MODELS[:2]


def test_the_asset_graph_shows_the_flow(ui: Ui) -> None:
    ui.open("/asset-groups")
    for group in ("documents", "index", "serving"):
        ui.page.get_by_text(group, exact=True).first.wait_for()
    for job, names in {
        "ingest_documents": ("source_files", "parsed_documents", "chunks"),
        "index_chunks": ("embeddings", "collection"),
    }.items():
        ui.open(f"{LOCATION}/jobs/{job}")
        for name in names:
            ui.see(name)


def test_a_partition_is_materialised_with_clicks(ui: Ui) -> None:
    ui.open("/assets/chunks")
    ui.button("Materialize").click()
    ui.page.get_by_text("Select a partition or create one").click()
    ui.page.get_by_role("menuitem", name="s001").click()
    ui.page.keyboard.press("Escape")
    ui.button("Launch 1 run").click()
    ui.follow_toast()

    ui.see("RUN_SUCCESS", within=RUN_ENDS_WITHIN)
    ui.see("s001")


def test_a_backfill_over_all_shards_is_launched_and_completes(ui: Ui) -> None:
    ui.open("/assets/parsed_documents")
    ui.button("Materialize").click()
    ui.page.locator(".dagster-portal").get_by_text("All", exact=True).click()
    ui.button("Launch backfill|Launch 3 runs|Launch 1 run").click()
    ui.follow_toast()

    ui.see("100% completed", within=RUN_ENDS_WITHIN)


def test_a_file_dropped_in_the_bucket_is_streamed_by_the_run_that_stays(
    ui: Ui, platform: Platform
) -> None:
    platform.put("edit.md", "# Edit\n\nIt brings the run that stays, if none is there.\n")
    run = awaited(platform.standing_run, "the standing run")
    platform.put("dropped.md", "# Dropped\n\nThis one came while somebody was looking.\n")
    platform.await_convergence()

    ui.open(f"{LOCATION}/sensors/source_sensor")
    ui.see("source_sensor")
    ui.open("/runs")
    ui.see(run.run_id[:8])
    ui.see("rag_assets/lane: stream")
    ui.see("rag_assets/reason: there are edits to stream")
    ui.open(f"/runs/{run.run_id}")
    ui.see("1 embedded, 1 rows written")


def test_lineage_leads_from_the_source_to_the_alias(ui: Ui) -> None:
    ui.open("/assets/collection?view=lineage&lineageScope=upstream")
    ui.see("Graph depth")
    ui.button("^All$").click()

    for name in ("source_files", "parsed_documents", "chunks", "embeddings"):
        ui.see(name)


@pytest.mark.parametrize("asset", ["source_files", "collection"])
def test_freshness_is_shown_and_passes_while_the_source_is_ingested(asset: str, ui: Ui) -> None:
    ui.open(f"/assets/{asset}")

    ui.see("Freshness policy")
    ui.see("Passing", exactly=True, within=RUN_ENDS_WITHIN)


def test_the_report_has_charts_in_place_and_opens_as_a_page(ui: Ui) -> None:
    ui.open(f"{LOCATION}/jobs/report")
    ui.button("Materialize").click()
    ui.follow_toast()
    ui.see("RUN_SUCCESS", within=RUN_ENDS_WITHIN)
    ui.open("/assets/ingestion_report")
    chart = ui.page.get_by_alt_text("Backlog").first
    expect(chart).to_have_js_property("complete", value=True)
    assert chart.evaluate("picture => picture.naturalWidth") > 0
    ui.page.get_by_text("Show Markdown").first.click()

    ui.see("Queries are answered from")
    ui.see("Cost so far")


def test_a_failing_check_shows_its_evidence(ui: Ui) -> None:
    ui.open("/assets/parsed_documents?view=checks&checkDetail=quarantine")
    ui.page.get_by_role("button", name=re.compile("Execute$")).last.click()

    ui.see("poison.html", within=RUN_ENDS_WITHIN)
    ui.see("The HTML nests 200,000 blocks; the limit is 3,000.")
    ui.see("Failed", exactly=True)


def test_a_wrong_model_in_the_launchpad_is_answered_with_what_there_is(ui: Ui) -> None:
    ui.open(f"{LOCATION}/jobs/register_model/playground")
    ui.fill_config("ops:\n  register:\n    config:\n      model: nope-v1\n")
    ui.button("Launch Run").click()

    ui.see("There is no model 'nope-v1'", within=RUN_ENDS_WITHIN)
    ui.see(LIVE)


@pytest.mark.parametrize("asset", ["parsed_documents", "chunks", "collection", "live_alias"])
def test_descriptions_lead_to_the_search_page(asset: str, ui: Ui) -> None:
    ui.open(f"/assets/{asset}")

    ui.see("Search page:")
    assert ui.page.get_by_role("link", name=SEARCH_URL).first.get_attribute("href") == SEARCH_URL


def test_the_search_page_leads_to_the_partition_and_the_run_that_made_a_hit(
    ui: Ui, platform: Platform
) -> None:
    webserver = f"http://{dev.HOST}:{platform.port}"
    settings = platform.settings.model_copy(update={"webserver_url": webserver})

    def explain(document_id: str) -> Explanation:
        with open_explanations(platform.instance, settings) as explanations:
            return explanations.explain(document_id)

    with running(create_app(settings, explain=explain)) as client:
        awaited(lambda: client.get("/readyz").is_success, "the service to be ready")
        ui.page.goto(f"{client.base_url}#{urlencode({'explain': '00.md'})}")
        shown = ui.page.get_by_role("link", name=f"collection, {LIVE}|")
        partition = shown.inner_text().partition(", ")[2]
        with ui.page.expect_popup() as asset:
            shown.click()
        shown = ui.page.get_by_role("link", name="run ").last
        run_id = shown.inner_text().removeprefix("run ")
        with ui.page.expect_popup() as run:
            shown.click()

    Ui(asset.value, platform.port).see(partition, exactly=True)
    Ui(asset.value, platform.port).see("Latest materialization")
    Ui(run.value, platform.port).see(run_id)  # it may be the standing run, which has not ended
    asset.value.close()
    run.value.close()


@pytest.fixture(scope="module")
def candidate(platform: Platform) -> str:
    """A model that is built while another one is live."""
    platform.register(CANDIDATE)
    platform.await_convergence()
    awaited(lambda: platform.in_sync(CANDIDATE), "the candidate to be in sync")
    platform.await_idle()
    return CANDIDATE


def test_a_model_is_promoted_from_the_launchpad(ui: Ui, platform: Platform, candidate: str) -> None:
    ui.open(f"{LOCATION}/jobs/promote")
    ui.menu("Materialize", "Open launchpad")
    ui.see("No errors")
    ui.fill_config(f"ops:\n  live_alias:\n    config:\n      model: {candidate}\n      by: Ada\n")
    ui.page.locator(".dagster-portal button", has_text="Materialize").last.click()

    ui.see("RUN_SUCCESS", within=RUN_ENDS_WITHIN)
    assert platform.live() == candidate
    ui.open("/assets/live_alias")
    ui.see("rag_assets/previous_model")
    ui.see("Ada")
    ui.see("exactly the chunks")
    ui.see("rag_assets/search_page")
