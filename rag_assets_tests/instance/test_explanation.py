"""Explain is asked for documents in all states, on a real platform whose sensors are ticked."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from rag_assets.cli.serving.explaining import open_explanations
from rag_assets.core.names import Job, Sensor
from rag_assets.core.reports.explanation import Explanation, State, Step
from rag_assets.serving.service.app import create_app
from rag_assets.settings import load_settings
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.filled import (
    SAME,
    Platform,
    filled,
    fillings,
    with_candidate,
)
from rag_assets_tests.support.hostile import hostile_files
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.search_service import running
from rag_assets_tests.support.waiting import awaited

__all__ = ["filled", "fillings"]

IN_SYNC, WAITING, SKIPPED = State.IN_SYNC, State.WAITING, State.SKIPPED
FAILED, MISSING, UNKNOWN = State.FAILED, State.MISSING, State.UNKNOWN

Setenv = Callable[[str, str], None]


@pytest.fixture
def setenv(monkeypatch: pytest.MonkeyPatch) -> Setenv:
    return monkeypatch.setenv


def explained(platform: Platform, document_id: str = "a.md") -> Explanation:
    with open_explanations(platform.instance, load_settings()) as explanations:
        return explanations.explain(document_id)


def steps(platform: Platform, document_id: str = "a.md") -> dict[str, Step]:
    return {step.name: step for step in explained(platform, document_id).steps}


def first_problem(platform: Platform, document_id: str = "a.md") -> Step:
    """Return the first step that is not in sync."""
    return next(s for s in explained(platform, document_id).steps if s.state is not IN_SYNC)


def listed(platform: Platform) -> list[dg.RunRequest]:
    """Tick the source sensor; return what it requests."""
    return list(platform.sensor(Sensor.SOURCE).tick().run_requests or ())


def test_a_document_that_is_in_sync(filled: Platform) -> None:
    found = explained(filled)

    assert found.verdict == f"Everything is in sync: searches find it in {found.live}."
    assert {step.state for step in found.steps} == {IN_SYNC}
    by_name = {step.name: step for step in found.steps}
    assert list(by_name) == [
        "source", "listing", "parsing", "metadata", "chunking", "embedding", "rows"
    ]  # fmt: skip
    chunks = by_name["chunking"].facts["chunks"]
    assert chunks == by_name["embedding"].facts["vectors"] == by_name["rows"].facts["rows"]
    assert isinstance(chunks, int)
    assert chunks > 0
    for name in ("parsing", "chunking", "embedding", "rows"):
        assert filled.instance.get_run_by_id(by_name[name].run_id)


def test_a_new_document_that_is_not_listed_yet(filled: Platform) -> None:
    filled.put("new.md")

    step = first_problem(filled, "new.md")

    assert (step.name, step.state) == ("listing", WAITING)
    assert step.message.startswith("The source has it, and it is not listed yet.")
    assert step.facts["bytes"] == len(document("new.md"))


def test_a_document_that_the_source_does_not_have(filled: Platform) -> None:
    step = first_problem(filled, "nowhere.md")

    assert (step.name, step.state) == ("listing", MISSING)
    assert step.message == "It is not listed, and the source does not have it."


def test_a_document_that_a_pattern_leaves_out(filled: Platform, setenv: Setenv) -> None:
    filled.put("draft.md")
    setenv("RAG_ASSETS_EXCLUDE", '["other/**", "draft*"]')
    step = first_problem(filled, "draft.md")
    assert (step.name, step.state) == ("listing", SKIPPED)
    assert step.message == "It is left out by the pattern to exclude `draft*`."

    setenv("RAG_ASSETS_INCLUDE", '["**/*.pdf", "a*"]')
    step = first_problem(filled, "new.md")
    assert step.message == "It matches none of the patterns to include: `**/*.pdf`, `a*`."


def test_a_document_that_is_left_out_by_now_and_still_listed(
    filled: Platform, setenv: Setenv
) -> None:
    setenv("RAG_ASSETS_EXCLUDE", '["a.md"]')

    step = first_problem(filled)

    assert (step.name, step.state) == ("listing", WAITING)
    assert "listed from before, and will be removed" in step.message


@pytest.mark.parametrize("key", ["a//b.md", "../a.md", "x" * 2000])
def test_a_key_that_cannot_be_a_documents(filled: Platform, key: str) -> None:
    step = first_problem(filled, key)

    assert step.state is FAILED or "no source 'a'" in step.message
    assert step.name in ("listing", "source")


def test_a_document_of_a_source_that_there_is_not(filled: Platform) -> None:
    step = first_problem(filled, "wiki//a.md")

    assert (step.name, step.state) == ("source", MISSING)
    assert step.message == "There is no source 'wiki'; declared are: default."


def test_a_sidecar_is_no_document(filled: Platform, setenv: Setenv, tmp_path: Path) -> None:
    rules = tmp_path / "metadata.yaml"
    rules.write_text("fields: {team: {type: string}}")
    setenv("RAG_ASSETS_METADATA_FILE", str(rules))

    step = first_problem(filled, "a.md.metadata.json")

    assert (step.name, step.state) == ("listing", SKIPPED)
    assert "the metadata of a.md" in step.message


def test_a_document_that_is_too_large(filled: Platform, setenv: Setenv) -> None:
    setenv("RAG_ASSETS_MAX_DOCUMENT_BYTES", "1000000")
    filled.put("large.md", b"x" * 1_000_001)
    filled.settle()

    step = first_problem(filled, "large.md")

    assert (step.name, step.state) == ("listing", FAILED)
    assert "the limit is 1000000" in step.message


def test_a_document_of_a_format_that_is_not_read(filled: Platform) -> None:
    filled.put("photo.png", b"picture")
    filled.settle()

    step = first_problem(filled, "photo.png")

    assert (step.name, step.state) == ("parsing", SKIPPED)
    assert step.message.startswith("Skipped. Files of this type are not read.")


@pytest.mark.parametrize(
    ("name", "content", "outcome"),
    [
        ("broken.pdf", None, "truncated"),
        ("empty.md", b" \n", "empty"),
        ("deep.html", hostile_files()["deep.html"][0], None),
    ],
)
def test_a_document_that_cannot_be_parsed(
    filled: Platform, name: str, content: bytes | None, outcome: str | None
) -> None:
    filled.put(name, content)
    filled.settle()

    found = steps(filled, name)

    assert found["parsing"].state is FAILED
    assert found["parsing"].facts["outcome"] == outcome or outcome is None
    assert found["chunking"].state is SKIPPED
    assert found["chunking"].message == "It has no text, so it has no chunks."
    assert "rows" not in found


def test_a_document_that_has_changed_and_is_not_listed_since(filled: Platform) -> None:
    filled.put("a.md", b"# Changed\n\nAnother text.\n")

    found = steps(filled)

    assert found["listing"].state is WAITING
    assert found["listing"].message.startswith("The source has version ")
    assert found["rows"].state is IN_SYNC  # what was listed is what is found


def test_a_change_that_is_listed_and_whose_run_has_not_begun(filled: Platform) -> None:
    filled.put("a.md", b"# Changed\n\nAnother text.\n")
    assert listed(filled)

    found = steps(filled)

    assert found["listing"].state is IN_SYNC
    assert found["parsing"].state is WAITING
    assert "The source_sensor will request a run for it." in found["parsing"].message


def test_a_change_whose_run_is_queued(filled: Platform) -> None:
    filled.put("a.md", b"# Changed\n\nAnother text.\n")
    [request] = listed(filled)
    run = filled.instance.create_run_for_job(
        filled.sensor(Sensor.SOURCE).repository.get_job(Job.INGEST_DOCUMENTS), tags=request.tags
    )

    step = steps(filled)["parsing"]

    assert (step.state, step.run_id) == (WAITING, run.run_id)
    assert f"It waits for run {run.run_id[:8]} (stream)." in step.message


def failing(platform: Platform, setenv: Setenv, name: str, value: str) -> None:
    """Let the run for a change of a.md fail with another setting."""
    platform.put("a.md", b"# Changed\n\nAnother text.\n")
    [request] = listed(platform)
    before = os.environ.get(name, "")
    setenv(name, value)
    job = platform.sensor(Sensor.SOURCE).repository.get_job(Job.INGEST_DOCUMENTS)
    failed = job.get_subset(asset_selection=set(request.asset_selection or ())).execute_in_process(
        instance=platform.instance, tags=dict(request.tags), raise_on_error=False
    )
    assert not failed.success
    setenv(name, before)


def test_a_change_whose_run_cannot_succeed(filled: Platform, setenv: Setenv) -> None:
    failing(filled, setenv, "RAG_ASSETS_SOURCE_URL", "file:///elsewhere")  # not the lake's

    step = steps(filled)["parsing"]

    assert step.state is WAITING
    assert "Runs cannot succeed as configured: ConfigurationError" in step.message


def test_a_document_that_is_deleted_and_still_listed(filled: Platform) -> None:
    filled.delete("a.md")

    found = steps(filled)

    assert found["listing"].state is WAITING
    assert found["listing"].message.startswith("The source does not have it any more.")


def test_a_deletion_that_is_listed_and_not_followed_yet(filled: Platform) -> None:
    filled.delete("a.md")
    listed(filled)

    found = steps(filled)

    assert found["listing"].state is MISSING
    assert found["parsing"].state is WAITING
    assert "it will be removed" in found["parsing"].message
    assert found["chunking"].state is WAITING
    assert found["rows"].state is IN_SYNC


def test_a_deletion_whose_rows_are_still_there(filled: Platform) -> None:
    filled.delete("a.md")
    source = filled.sensor(Sensor.SOURCE)
    for request in source.tick().run_requests or ():
        source.run(request)

    found = steps(filled)

    assert "chunking" not in found
    assert found["rows"].state is WAITING
    assert "are to be removed" in found["rows"].message
    filled.settle()
    assert [s.state for s in explained(filled).steps] == [IN_SYNC, MISSING, MISSING]


def test_a_removal_that_is_doubted(filled: Platform, setenv: Setenv) -> None:
    setenv("RAG_ASSETS_MAX_REMOVAL_DOCUMENTS", "0")
    setenv("RAG_ASSETS_MAX_REMOVAL_SHARE", "0.1")
    filled.delete("a.md")
    listed(filled)

    step = first_problem(filled)

    assert (step.name, step.state) == ("listing", WAITING)
    assert "accept-removal" in step.message


def test_a_document_whose_vectors_and_rows_wait_for_the_second_stage(filled: Platform) -> None:
    filled.put("a.md", b"# Changed\n\nAnother text.\n")
    source = filled.sensor(Sensor.SOURCE)
    for request in source.tick().run_requests or ():
        source.run(request)

    found = steps(filled)

    assert found["chunking"].state is IN_SYNC
    assert found["embedding"].state is WAITING
    assert f"1 of 1 texts have no vector of {WORDLLAMA}." in found["embedding"].message
    assert "The index_sensor will request a run for it." in found["embedding"].message
    assert found["rows"].state is WAITING


def test_rows_that_somebody_has_deleted(filled: Platform) -> None:
    with open_explanations(filled.instance, load_settings()) as explanations:
        store, live = explanations.index.store, explained(filled).live
        store.delete(live, store.document_keys(live, ["a.md"]))

    step = first_problem(filled)

    assert (step.name, step.state) == ("rows", WAITING)
    assert "has 0 rows" in step.message


def test_other_rules_of_chunking_and_parsing(filled: Platform, setenv: Setenv) -> None:
    setenv("RAG_ASSETS_CHUNK_CHARACTERS", "333")
    step = first_problem(filled)
    assert (step.name, step.state) == ("chunking", WAITING)
    assert step.message.startswith("It was chunked by other rules.")

    setenv("RAG_ASSETS_PARSE_CHARACTERS", "1000")
    step = first_problem(filled)
    assert (step.name, step.state) == ("parsing", WAITING)
    assert step.message.startswith("It was parsed by another version of the parser.")


def test_metadata_that_is_wrong_and_a_sidecar_that_has_changed(
    filled: Platform, setenv: Setenv, tmp_path: Path
) -> None:
    rules = tmp_path / "metadata.yaml"
    rules.write_text("fields: {year: {type: integer}}")
    setenv("RAG_ASSETS_METADATA_FILE", str(rules))
    step = first_problem(filled)
    assert (step.name, step.state) == ("metadata", WAITING)
    assert step.message.startswith("The rules for metadata have changed.")

    filled.put("a.md.metadata.json", b'{"metadataAttributes": {"year": "soon"}}')
    filled.settle()
    step = first_problem(filled)
    assert (step.name, step.state) == ("metadata", FAILED)
    assert "year" in step.message

    filled.put("a.md.metadata.json", b'{"metadataAttributes": {"year": 2026}}')
    listed(filled)
    step = first_problem(filled)
    assert (step.name, step.state) == ("metadata", WAITING)
    assert step.message.startswith("Its sidecar has changed.")


def test_without_milvus_the_rest_is_explained(filled: Platform, setenv: Setenv) -> None:
    [port] = free_ports(1)
    setenv("RAG_ASSETS_MILVUS_URI", f"http://127.0.0.1:{port}")

    found = steps(filled)

    assert found["embedding"].state is IN_SYNC
    assert found["rows"].state is UNKNOWN
    assert str(port) in found["rows"].message


def test_without_the_source_what_was_listed_is_explained(filled: Platform) -> None:
    (filled.home / "documents").rename(filled.home / "elsewhere")

    found = explained(filled)

    by_name = {step.name: step for step in found.steps}
    assert by_name["rows"].state is IN_SYNC
    assert "unknown" in by_name["listing"].message or by_name["listing"].state is WAITING


def test_a_candidate_that_is_behind_is_told_of_and_decides_nothing(
    fillings: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = fillings("a.md", "b.md", fill=with_candidate).restored(monkeypatch)  # type: ignore[attr-defined]
    with open_explanations(platform.instance, load_settings()) as explanations:
        store = explanations.index.store
        candidate = explanations.index.collection_name(SAME)
        store.delete(candidate, store.document_keys(candidate, ["a.md"]))

    found = explained(platform)

    assert found.verdict.startswith("Everything is in sync")
    states = {
        step.facts.get("collection"): step.state for step in found.steps if step.name == "rows"
    }
    assert states == {found.live: IN_SYNC, candidate: WAITING}


TOKENS = """
- {name: ann, token: token-of-ann-sixteen, principals: ["user:ann"]}
- {name: bob, token: token-of-bob-sixteen, principals: ["user:bob"]}
- {name: root, token: token-of-an-operator, operator: true}
"""


def test_over_http_everybody_is_told_of_their_documents_and_operators_of_all(
    filled: Platform, setenv: Setenv, tmp_path: Path
) -> None:
    rules = tmp_path / "metadata.yaml"
    rules.write_text("permissions: {default: closed}")
    setenv("RAG_ASSETS_METADATA_FILE", str(rules))
    for name, principal in (("a.md", "user:ann"), ("b.md", "*")):
        sidecar = {"metadataAttributes": {"principals": [principal]}}
        filled.put(f"{name}.metadata.json", json.dumps(sidecar).encode())
    filled.settle()
    settings = load_settings(serve_tokens=TOKENS)
    with running(create_app(settings, explain=lambda name: explained(filled, name))) as client:
        awaited(lambda: client.get("/readyz").is_success, "the service to be ready", 60)

        def told(token: str, document_id: str, **asked: str) -> tuple[int, str]:
            response = client.post(
                "/v1/explain",
                json={"document_id": document_id, **asked},
                headers={"Authorization": f"Bearer {token}"},
            )
            answer = response.json()
            return response.status_code, answer.get("verdict") or answer["error"]["message"]

        ann, bob, root = "token-of-ann-sixteen", "token-of-bob-sixteen", "token-of-an-operator"
        in_sync = "Everything is in sync"
        nothing = (404, "There is no document of this id that you may see.")
        for token, document_id in ((ann, "a.md"), (ann, "b.md"), (bob, "b.md"), (root, "a.md")):
            status, message = told(token, document_id)
            assert (status, message[: len(in_sync)]) == (200, in_sync)
        assert told(bob, "a.md") == told(bob, "c.md") == told(ann, "nowhere.md") == nothing
        assert told(root, "nowhere.md")[0] == 200
        assert told(bob, "b.md", question="x", collection="other")[0] == 403
        assert told("wrong-token-of-sixteen", "b.md")[0] == 401


def test_over_http_a_question_ranks_the_document(filled: Platform) -> None:
    app = create_app(load_settings(), explain=lambda name: explained(filled, name))
    with running(app) as client:
        awaited(lambda: client.get("/readyz").is_success, "the service to be ready", 60)
        asked = {"document_id": "a.md", "question": document("a.md").splitlines()[0]}
        ranks = client.post("/v1/explain", json=asked).json()["ranks"]
        search = {"question": asked["question"], "limit": 100, "collapse": False}
        hits = client.post("/v1/search", json=search).json()["hits"]

    [similarity] = ranks["rankings"]
    places = [hit["document_id"] for hit in hits]
    assert similarity["by"] == "similarity"
    assert similarity["rank"] == places.index("a.md") + 1
    assert similarity["score"] == pytest.approx(hits[places.index("a.md")]["score"])


def test_nothing_is_changed_by_explaining(filled: Platform) -> None:
    events = filled.instance.event_log_storage.get_maximum_record_id()

    explained(filled)

    assert filled.instance.event_log_storage.get_maximum_record_id() == events
    assert not listed(filled)
