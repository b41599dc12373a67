"""docs/costs.md: its numbers are the model's."""

from rag_assets_tests.core.costs.documentation import COMMAND, PAGE, blocks, names, renewed


def test_the_blocks_of_the_page_are_what_the_model_generates() -> None:
    page = PAGE.read_text()

    assert sorted(names(page)) == sorted(blocks())
    assert renewed(page) == page, f"Regenerate them: {COMMAND}"


def test_the_reference_case_is_what_the_page_says() -> None:
    page = PAGE.read_text()

    for figure in ("54.20", "1.81", "29.88", "19.58", "2.77", "1.10"):
        assert figure in page
