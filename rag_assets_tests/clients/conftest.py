"""An index with something of everything that hits can bring, its searcher, and its service."""

import os
from collections.abc import Iterator

import pytest

from rag_assets.clients.retrieval import Searching
from rag_assets.clients.service import SearchClient
from rag_assets.core.metadata.rules import metadata_rules
from rag_assets.serving.searcher import Searcher
from rag_assets_tests.pipeline.test_metadata import describe
from rag_assets_tests.support.pipeline import Pipeline, token_count
from rag_assets_tests.support.search_service import SECRET, TOKENS, search_service

# Before anything imports a framework: nothing is told to anybody.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"
os.environ["LANGSMITH_TRACING"] = "false"

DECLARED = {
    "paths": [r"(?P<department>[^/]+)/(?P<year>\d{4})/"],
    "fields": {
        "department": {"type": "string", "default": "general"},
        "year": {"type": "integer"},
        "reviewed": {"type": "timestamp"},
        "heading": {"type": "string"},  # like the place of a chunk
        "looks_like_time": {"type": "string"},
    },
    "permissions": {"default": "closed", "paths": {"public/": ["*"], "works/": ["*"]}},
}
RULES = metadata_rules(DECLARED, "metadata.yaml")
NOTICE = "The kiln is fired on Fridays and nobody enters the hall before it has cooled down."
PARAGRAPH = " ".join(4 * ["Paragraph {} of the kiln's manual tells of temperature number {}."])
TIME = "2026-01-31T08:00:00+00:00"
PORTAL, ANN = "token-of-the-portal", "token-of-ann-sixteen"


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory, milvus_lite: str) -> Iterator[Pipeline]:
    """A notice in two documents, a manual of several chunks, others, and one for Ann."""
    folder = tmp_path_factory.mktemp("clients")
    with Pipeline.create(folder, milvus_lite, rules=RULES) as created:
        created.write("public/notice.md", NOTICE)
        created.write("public/hall.md", NOTICE)
        sections = "\n\n".join(PARAGRAPH.replace("{}", str(number)) for number in range(4))
        created.write("works/2024/manual.md", f"# Manual\n\n## Kiln\n\n{sections}\n")
        created.write("works/2023/glaze.md", "# Glaze\n\nGlaze is mixed on Mondays.\n")
        details = {"reviewed": TIME, "looks_like_time": TIME, "heading": "declared"}
        describe(created, "works/2024/manual.md", principals=["*"], **details)
        created.write("hr/2024/salary.md", f"# Salary\n\n{SECRET}.\n")
        describe(created, "hr/2024/salary.md", principals=["user:ann"])
        created.fill(0)
        created.promote()
        yield created


@pytest.fixture(scope="package")
def searcher(live: Pipeline) -> Searcher:
    """The searcher in process; the pipeline closes its connection."""
    index, count = live.index, token_count()
    return Searcher(index.store, index.alias, index.find_spec, index.load, count_tokens=count)


@pytest.fixture(scope="package")
def url(live: Pipeline) -> Iterator[str]:
    """The address of a service with tokens."""
    with search_service(live, serve_tokens=TOKENS) as served:
        yield str(served.base_url)


@pytest.fixture(scope="package")
def client(url: str) -> Iterator[SearchClient]:
    """A client that may search for anybody."""
    with SearchClient(url, PORTAL) as opened:
        yield opened


@pytest.fixture(params=["searcher", "client"])
def asked(request: pytest.FixtureRequest) -> Searching:
    """Whom a retriever asks: each in turn."""
    found: Searching = request.getfixturevalue(request.param)
    return found
