"""The generated blocks of docs/costs.md, between comments that name them, and its pictures.

To regenerate them: `python -m rag_assets_tests.core.costs.documentation`.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

from rag_assets.core.costs import cost_report, cost_sections
from rag_assets.core.reports.charts import Bars
from rag_assets.core.reports.sections import Section, markdown

COMMAND = "python -m rag_assets_tests.core.costs.documentation"
PAGE = Path(__file__).parents[3] / "docs" / "costs.md"
BLOCK = re.compile(r"<!-- generated: (?P<name>.+?) -->\n.*?<!-- end -->\n", re.DOTALL)
PICTURES = ("policies-cost.svg", "policies-freshness.svg")
SHOWN_OF_REFERENCE = (
    *(
        "What the policies would cost",
        "Policies",
        "Resources",
        "Freshness",
        "Standing run or stream runs",
    ),
    *("Sensitivity", "Break-even", "Assumptions"),
)
SHOWN_OF_STREAM_RUNS = (
    *(
        "What the policies would cost",
        "Policies",
        "Resources",
        "Freshness",
        "Sensitivity",
        "Break-even",
    ),
)
SHOWN_OF_SERVER = ("What the policies would cost", "Policies", "Resources", "Break-even")


def names(page: str) -> list[str]:
    """Return the names of a page's blocks, in order."""
    return [block["name"] for block in BLOCK.finditer(page)]


@cache
def reference() -> list[Section]:
    """Return the sections of the reference case."""
    return cost_sections(cost_report())


@cache
def blocks() -> dict[str, str]:
    """Return the blocks as the model generates them now, comments included, by name."""
    runs = cost_report(given={"stream_run": False})
    server = cost_report(given={"stream_run": False, "gpu_run_start_s": 0})
    return {
        **_blocks("reference", reference(), SHOWN_OF_REFERENCE),
        **_blocks("stream runs", cost_sections(runs), SHOWN_OF_STREAM_RUNS),
        **_blocks("embedding server", cost_sections(server), SHOWN_OF_SERVER),
    }


def renewed(page: str) -> str:
    """Return a page with every block as the model generates it now."""
    generated = blocks()
    return BLOCK.sub(lambda block: generated[block["name"]], page)


def pictures() -> dict[Path, str]:
    """Return the pictures of the reference case as the model generates them now, by path."""
    drawn = [chart for section in reference() for chart in section.charts]
    return {
        PAGE.parent / "images" / name: f"{chart.svg()}\n"
        for name, chart in zip(PICTURES, drawn, strict=True)
        if isinstance(chart, Bars)
    }


def _blocks(case: str, sections: Iterable[Section], shown: Iterable[str]) -> dict[str, str]:
    by_title = {section.title: section for section in sections}
    return {f"{case}, {title}": _block(f"{case}, {title}", by_title[title]) for title in shown}


def _block(name: str, section: Section) -> str:
    text = markdown([replace(section, charts=())])
    text = text.split("\n", 2)[2].strip()  # the page has its own headings
    return f"<!-- generated: {name} -->\n{text}\n<!-- end -->\n"


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
    for path, svg in pictures().items():
        path.write_text(svg)
