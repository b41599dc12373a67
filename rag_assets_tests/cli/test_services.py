"""What `rag-assets dev` tells its child processes."""

from rag_assets.cli.services import environment, with_links
from rag_assets.settings import Settings


def test_the_ui_and_the_search_page_know_each_others_addresses() -> None:
    told = environment(with_links(Settings(), 3000, 8000))

    assert told["RAG_ASSETS_WEBSERVER_URL"] == "http://127.0.0.1:3000"
    assert told["RAG_ASSETS_SEARCH_URL"] == "http://127.0.0.1:8000"


def test_addresses_that_are_set_are_kept_and_none_leads_to_a_service_that_is_not_started() -> None:
    told = environment(with_links(Settings(webserver_url="https://dagster.example.com"), 3000, 0))

    assert told["RAG_ASSETS_WEBSERVER_URL"] == "https://dagster.example.com"
    assert told["RAG_ASSETS_SEARCH_URL"] == ""
