"""The documents that the service's tests search."""

from collections.abc import Iterator

import httpx2
import pytest

from rag_assets_tests.pipeline.test_metadata import RULES, describe
from rag_assets_tests.support.pipeline import Pipeline
from rag_assets_tests.support.search_service import SECRET, TOKENS, search_service


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, milvus_lite: str) -> Iterator[Pipeline]:
    """A document for all, and one for Ann."""
    with Pipeline.create(tmp_path_factory.mktemp("service"), milvus_lite, rules=RULES) as created:
        created.write("public/kiln.md", "# Kiln\n\nThe kiln is fired on Fridays.\n")
        created.write("hr/2024/salary.md", f"# Salary\n\n{SECRET}.\n")
        describe(created, "hr/2024/salary.md", principals=["user:ann"])
        created.fill(0)
        created.promote()
        yield created


@pytest.fixture(scope="module")
def client(live: Pipeline) -> Iterator[httpx2.Client]:
    """The service with tokens."""
    with search_service(live, serve_tokens=TOKENS) as served:
        yield served
