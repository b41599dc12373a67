"""Metadata and permissions on their way from the source to rows, with the work counted."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from rag_assets.core.errors import DocumentUnreadableError
from rag_assets.core.metadata.rules import metadata_rules
from rag_assets.pipeline.counts import LakeCounts
from rag_assets.pipeline.permissions import permission_differences, revoke
from rag_assets_tests.support.pipeline import Pipeline, Work

RULES = metadata_rules(
    {
        "paths": [r"(?P<department>[^/]+)/(?P<year>\d{4})/"],
        "fields": {
            "department": {"type": "string", "default": "general"},
            "year": {"type": "integer"},
            "tags": {"type": "strings"},
        },
        "permissions": {"default": "closed", "paths": {"public/": ["*"]}},
    },
    "metadata.yaml",
)


@pytest.fixture
def pipeline(tmp_path: Path, milvus_uri: str) -> Iterator[Pipeline]:
    with Pipeline.create(tmp_path, milvus_uri, rules=RULES) as created:
        yield created


def describe(pipeline: Pipeline, name: str, **attributes: Any) -> None:
    """Write a document's sidecar."""
    pipeline.write(f"{name}.metadata.json", json.dumps({"metadataAttributes": attributes}))


METADATA = ("source", "format", "principals", "meta_department", "meta_year", "meta_tags")


def rows(pipeline: Pipeline, name: str) -> list[dict[str, Any]]:
    return [row for row in pipeline.rows(*METADATA) if row["document_id"] == name]


def principals(pipeline: Pipeline, name: str) -> set[tuple[str, ...]]:
    return {tuple(row["principals"]) for row in rows(pipeline, name)}


def done(work: Work) -> Work:
    """The work that should be proportional to what changed."""
    counted = ("parsing.parsed", "embedding.computed", "sync.written", "sync.deleted")
    return {name: work[name] for name in counted if work[name]}


def test_path_sidecar_and_defaults_become_fields(pipeline: Pipeline) -> None:
    pipeline.write("legal/2024/a.md", "# A\n\nText of a.\n")
    pipeline.write("b.md", "# B\n\nText of b.\n")
    describe(pipeline, "b.md", year=1999, tags=["x", "y"], principals=["user:ann"])

    work = pipeline.run()

    assert work["listing.documents"] == 2  # a sidecar is no document
    assert set(pipeline.indexed()) == {"legal/2024/a.md", "b.md"}
    [a], [b] = rows(pipeline, "legal/2024/a.md"), rows(pipeline, "b.md")
    assert (a["meta_department"], a["meta_year"], list(a["meta_tags"])) == ("legal", 2024, [])
    assert (b["meta_department"], b["meta_year"]) == ("general", 1999)
    assert (list(b["meta_tags"]), list(b["principals"])) == (["x", "y"], ["user:ann"])
    assert list(a["principals"]) == []  # closed: nobody
    assert (a["source"], a["format"]) == ("default", "md")


@pytest.mark.parametrize("first", ["document", "sidecar"])
def test_a_sidecar_may_come_before_or_after_its_document(pipeline: Pipeline, first: str) -> None:
    if first == "document":
        pipeline.write("a.md", "# A\n\nText.\n")
    else:
        describe(pipeline, "a.md", principals=["user:ann"])
    pipeline.run()
    assert principals(pipeline, "a.md") == ({()} if first == "document" else set())

    pipeline.write("a.md", "# A\n\nText.\n")
    describe(pipeline, "a.md", principals=["user:ann"])
    work = pipeline.run()

    assert principals(pipeline, "a.md") == {("user:ann",)}
    once = {"parsing.parsed": 1, "embedding.computed": 1}
    assert done(work) == (once if first == "sidecar" else {}) | {"sync.written": 1}


def test_a_changed_sidecar_rewrites_rows_with_their_vectors(pipeline: Pipeline) -> None:
    pipeline.fill(5)
    for name in ("0.md", "1.md"):
        describe(pipeline, name, principals=["user:ann", "user:bob"])
    pipeline.run()
    affected = len(rows(pipeline, "0.md"))

    describe(pipeline, "0.md", principals=["user:bob"], department="tax")
    work = pipeline.run()

    assert done(work) == {"sync.written": affected}
    assert principals(pipeline, "0.md") == {("user:bob",)}
    assert principals(pipeline, "1.md") == {("user:ann", "user:bob")}
    assert {row["meta_department"] for row in rows(pipeline, "0.md")} == {"tax"}
    assert done(pipeline.run()) == {}


def test_a_sidecar_that_vanishes_leaves_the_default(pipeline: Pipeline) -> None:
    pipeline.write("public/a.md", "# A\n\nText.\n")
    describe(pipeline, "public/a.md", principals=["user:ann"], year=1)
    pipeline.run()
    pipeline.remove("public/a.md.metadata.json")

    assert done(pipeline.run()) == {"sync.written": 1}

    assert principals(pipeline, "public/a.md") == {("*",)}
    assert rows(pipeline, "public/a.md")[0]["meta_year"] == -(2**63)
    assert done(pipeline.run()) == {}


def test_wrong_values_leave_the_text_and_are_named(pipeline: Pipeline) -> None:
    pipeline.write("public/a.md", "# A\n\nText.\n")
    describe(pipeline, "public/a.md", year="soon", principals=[{"no": "string"}], department="tax")
    pipeline.write("public/b.md", "# B\n\nText.\n")
    pipeline.write("public/b.md.metadata.json", "{")

    pipeline.run()

    errors = {row["document_id"]: row["metadata_error"] for row in pipeline.parsed().to_dicts()}
    assert "year: in sidecar, 'soon' is not an integer" in errors["public/a.md"]
    assert "principals: in sidecar" in errors["public/a.md"]
    assert "public/b.md.metadata.json: it is not valid JSON" in errors["public/b.md"]
    for name in ("public/a.md", "public/b.md"):
        assert principals(pipeline, name) == {()}  # nobody, although the folder is public
    assert rows(pipeline, "public/a.md")[0]["meta_department"] == "tax"
    assert pipeline.indexed() == {name: pipeline.indexed()[name] for name in errors}


def test_a_sidecar_that_cannot_be_read_keeps_its_content_and_is_read_again(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline.write("a.md", "# A\n\nText.\n")
    describe(pipeline, "a.md", principals=["user:ann"])
    pipeline.run()
    monkeypatch.setattr("rag_assets.pipeline.documents.metadata.RETRY_AFTER", timedelta())
    describe(pipeline, "a.md", principals=["user:bob"])
    with monkeypatch.context() as locked:
        error = DocumentUnreadableError("it is locked")
        locked.setattr(pipeline.source, "read_all", lambda ids: dict.fromkeys(ids, error))
        assert done(pipeline.run()) == {}
    assert principals(pipeline, "a.md") == {("user:ann",)}

    assert done(pipeline.run()) == {"sync.written": 1}

    assert principals(pipeline, "a.md") == {("user:bob",)}
    assert done(pipeline.run()) == {}


def test_other_rules_parse_and_embed_nothing(pipeline: Pipeline) -> None:
    pipeline.fill(5)
    describe(pipeline, "0.md", principals=["user:ann"], year=2020)
    pipeline.run()
    document = RULES.model_dump(by_alias=True)
    document["permissions"]["paths"] = {"": ["group:staff"]}

    pipeline.declare(metadata_rules(document, "metadata.yaml"))
    work = pipeline.run()

    others = [row for row in pipeline.rows("principals") if row["document_id"] != "0.md"]
    assert done(work) == {"sync.written": len(others)}
    assert {tuple(row["principals"]) for row in others} == {("group:staff",)}
    assert principals(pipeline, "0.md") == {("user:ann",)}


def test_a_revoked_permission_leaves_before_the_new_text_is_embedded(pipeline: Pipeline) -> None:
    pipeline.write("a.md", "# A\n\nThe text before.\n")
    pipeline.write("b.md", "# B\n\nThe text of b.\n")
    for name in ("a.md", "b.md"):
        describe(pipeline, name, principals=["user:ann", "user:bob"])
    pipeline.run()
    pipeline.write("a.md", "# A\n\nThe text after.\n")
    describe(pipeline, "a.md", principals=["user:bob", "user:eve"])
    pipeline.remove("b.md")
    pipeline.list_all()
    pipeline.parse_and_chunk_all()
    embedded = len(pipeline.embedder.embedded)

    revoked = sum(revoke(pipeline.target(), shard) for shard in pipeline.shards)

    assert revoked == 2
    assert len(pipeline.embedder.embedded) == embedded
    assert pipeline.indexed() == {"a.md": ["# A\n\nThe text before."]}
    assert principals(pipeline, "a.md") == {("user:bob", "user:eve")}
    assert sum(revoke(pipeline.target(), shard) for shard in pipeline.shards) == 0
    pipeline.embed_all()
    pipeline.sync_all()
    assert pipeline.indexed() == {"a.md": ["# A\n\nThe text after."]}


def test_a_sidecar_is_not_counted_as_a_document(pipeline: Pipeline) -> None:
    pipeline.declare(RULES)
    pipeline.fill(3)
    describe(pipeline, "0.md", principals=["user:ann"])
    pipeline.run()

    counts = LakeCounts.read(pipeline.lake, pipeline.shards)

    assert sum(counts.listed.values()) == counts.outcomes.with_text == 3


def test_rows_that_show_too_much_or_too_little_are_found(pipeline: Pipeline) -> None:
    pipeline.write("a.md", "# A\n\nText.\n")
    describe(pipeline, "a.md", principals=["user:ann"])
    pipeline.run()
    [row] = rows(pipeline, "a.md")
    in_sync = [permission_differences(pipeline.target(), shard) for shard in pipeline.shards]
    assert [(d.shown, d.hidden) for d in in_sync if d] == [(0, 0)] * len(pipeline.shards)

    for wrong, expected in ((["user:eve", "user:ann"], (1, 0)), ([], (0, 1))):
        pipeline.store.show_to(pipeline.collection, {row["chunk_id"]: wrong})
        found = [permission_differences(pipeline.target(), shard) for shard in pipeline.shards]
        assert (1, *expected) in [(d.rows, d.shown, d.hidden) for d in found if d]
