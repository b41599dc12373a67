"""Search with filters and permissions: who finds what, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rag_assets import F
from rag_assets.core.errors import SearchError
from rag_assets.core.metadata.rules import MetadataRules, metadata_rules
from rag_assets.serving.searcher import Searcher
from rag_assets_tests.pipeline.test_metadata import RULES, describe
from rag_assets_tests.support.pipeline import Pipeline

DOCUMENTS = {
    "legal/2024/a.md": {"principals": ["user:ann", "group:legal"]},
    "legal/2025/b.md": {"principals": ["group:legal"], "tags": ["draft"]},
    "public/c.md": {},
    "d.md": {},
    "e.md": {"principals": ["*"], "department": "sales"},
}


def searcher(pipeline: Pipeline) -> Searcher:
    index = pipeline.index
    return Searcher(index.store, index.alias, index.find_spec, index.load, refresh_seconds=0)


@pytest.fixture
def live(tmp_path: Path, milvus_uri: str) -> Iterator[Pipeline]:
    """Five documents of one chunk each, with permissions."""
    with Pipeline.create(tmp_path, milvus_uri, rules=RULES) as created:
        for name, attributes in DOCUMENTS.items():
            created.write(name, f"# Report\n\nThe report {name}.\n")
            if attributes:
                describe(created, name, **attributes)
        created.fill(0)
        created.promote()
        yield created


def found(pipeline: Pipeline, principals: list[str] | None, **options: object) -> set[str]:
    with_strong = searcher(pipeline).search("report", 100, principals=principals, **options)  # type: ignore[arg-type]
    return {hit.document_id for hit in with_strong}


def test_everyone_finds_what_they_may_see_and_nothing_else(live: Pipeline) -> None:
    everyone = {"public/c.md", "e.md"}

    assert found(live, []) == everyone
    assert found(live, ["user:ann"]) == everyone | {"legal/2024/a.md"}
    assert found(live, ["user:bob", "group:legal"]) == everyone | {
        "legal/2024/a.md",
        "legal/2025/b.md",
    }
    assert found(live, ['user:ann"] or chunk_id != "', "user:ann\\"]) == everyone


def test_principals_cannot_be_left_out(live: Pipeline) -> None:
    with pytest.raises(SearchError, match="name the user and groups who ask"):
        found(live, None)
    with pytest.raises(SearchError, match="list of names"):
        searcher(live).search("report", principals="group:legal")
    live.store.rules = MetadataRules()  # an application without the platform's file
    with pytest.raises(SearchError, match="name the user"):
        found(live, None)


def test_filters_and_permissions_are_both_obeyed(live: Pipeline) -> None:
    legal = ["group:legal"]

    assert found(live, legal, where=F.department == "legal") == {
        "legal/2024/a.md",
        "legal/2025/b.md",
    }
    assert found(live, legal, where="year >= 2025 or department == 'sales'") == {
        "legal/2025/b.md",
        "e.md",
    }
    assert found(live, legal, where=~F.tags.in_(["draft"]), document_prefix="legal/") == {
        "legal/2024/a.md"
    }
    assert found(live, [], where=F.department == "legal") == set()


def test_a_filter_that_does_not_fit_the_fields_is_refused(live: Pipeline) -> None:
    with pytest.raises(SearchError, match=r"departement.*department"):
        found(live, [], where="departement == 'legal'")
    with pytest.raises(SearchError, match="integer"):
        found(live, [], where="year == 'soon'")


def test_a_hit_has_its_metadata(live: Pipeline) -> None:
    [hit] = searcher(live).search("report", principals=["group:legal"], where="year == 2025")

    assert hit.metadata["department"] == "legal"
    assert hit.metadata["tags"] == ["draft"]
    assert (hit.metadata["format"], hit.metadata["source"]) == ("md", "default")
    assert "principals" not in hit.metadata


def test_a_collection_without_permissions_is_not_searched_once_they_are_on(
    tmp_path: Path, milvus_lite: str
) -> None:
    with Pipeline.create(tmp_path, milvus_lite) as pipeline:
        pipeline.fill(3)
        pipeline.promote()
        assert len(found(pipeline, ["user:ann"])) == 3  # off: everyone sees everything

        pipeline.declare(RULES)

        with pytest.raises(SearchError, match="was built without"):
            found(pipeline, ["user:ann"])


def test_a_field_that_the_collection_lacks_asks_for_a_rebuild(
    tmp_path: Path, milvus_lite: str
) -> None:
    with Pipeline.create(tmp_path, milvus_lite) as pipeline:
        pipeline.fill(3)
        pipeline.promote()

        pipeline.declare(metadata_rules({"fields": {"year": {"type": "integer"}}}, "m.yaml"))

        with pytest.raises(SearchError, match="models rebuild"):
            found(pipeline, None, where="year == 1")
        assert len(found(pipeline, None, where="format == 'md'")) == 3
