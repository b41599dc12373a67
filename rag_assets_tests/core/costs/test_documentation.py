"""docs/costs.md: its numbers are the model's."""

from rag_assets_tests.core.costs.documentation import (
    COMMAND,
    PAGE,
    blocks,
    names,
    pictures,
    renewed,
)


def test_the_blocks_of_the_page_are_what_the_model_generates() -> None:
    page = PAGE.read_text()

    assert sorted(names(page)) == sorted(blocks())
    assert renewed(page) == page, f"Regenerate them: {COMMAND}"


def test_the_pictures_of_the_page_are_what_the_model_generates() -> None:
    page = PAGE.read_text()

    for path, svg in pictures().items():
        assert f"(images/{path.name})" in page
        assert path.read_text() == svg, f"Regenerate them: {COMMAND}"


def test_the_reference_case_is_what_the_page_says() -> None:
    page = PAGE.read_text()

    for figure in ("54.85", "1.88", "29.12", "19.65", "2.79", "1.13"):
        assert figure in page
