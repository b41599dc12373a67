"""A model's life as jobs: what each does, that it can be repeated, and what it refuses."""

import re
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
import yaml

from rag_assets.adapters.lake.lake import Lake
from rag_assets.adapters.objects.object_store import open_object_store
from rag_assets.cli.ingestion import statuses
from rag_assets.core.models.gate import Rule
from rag_assets.core.models.spec import collection_name
from rag_assets.core.names import Partition, Tag
from rag_assets.instance.event_log import check_evaluations
from rag_assets.settings import load_settings
from rag_assets_tests.support.filled import (
    BM25,
    SAME,
    Filling,
    Fillings,
    Platform,
    fillings,
    with_candidate,
)
from rag_assets_tests.support.held import milvus_client
from rag_assets_tests.support.pipeline import WORDLLAMA
from rag_assets_tests.support.ticking import launch, settle

__all__ = ["fillings"]

LIVE = WORDLLAMA
DOCUMENTS = tuple(f"{number}.md" for number in range(12))
COMPLETE = dg.AssetCheckKey(dg.AssetKey("live_alias"), "gate_complete")


@pytest.fixture
def models(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Iterator["Models"]:
    """A platform with twelve documents, a live model, and two more in its models file."""
    yield from restored(fillings(*DOCUMENTS), monkeypatch)


@pytest.fixture
def built(fillings: Fillings, monkeypatch: pytest.MonkeyPatch) -> Iterator["Models"]:
    """The same, on which the model of the live one's signature has been built."""
    yield from restored(fillings(*DOCUMENTS, fill=with_candidate), monkeypatch)


def restored(filling: Filling, monkeypatch: pytest.MonkeyPatch) -> Iterator["Models"]:
    monkeypatch.setenv("RAG_ASSETS_RETIRE_GRACE_SECONDS", "0")
    created = Models(filling.restored(monkeypatch))
    yield created
    created.witness.close()


class Models:
    """The jobs, launched in this process, and what is seen of their work from outside."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.instance = platform.instance
        self.source, self.index = platform.sensors()
        self.settings = load_settings()
        self.witness = milvus_client(self.settings.milvus_uri)

    def settle(self) -> None:
        settle(self.source, self.index)

    def run(self, job: str, **ops: dict[str, Any]) -> dg.ExecuteInProcessResult:
        return launch(self.index, job, **ops)

    def done(self, job: str, **ops: dict[str, Any]) -> dg.ExecuteInProcessResult:
        result = self.run(job, **ops)
        assert result.success
        return result

    def refused(self, job: str, **ops: dict[str, Any]) -> str:
        """Return why; a refusal is noted on the run as one that no repetition helps."""
        result = self.run(job, **ops)
        assert not result.success
        run = self.instance.get_run_by_id(result.run_id)
        assert run is not None
        [failure] = [e for e in result.all_events if e.is_step_failure]
        error = failure.step_failure_data.error
        assert error is not None
        return (error.cause or error).message

    def build(self, model: str) -> None:
        self.done("register_model", register={"model": model})
        self.done("build_model", build={"model": model})
        self.settle()

    def roles(self) -> dict[str, str]:
        return {status.model: status.role for status in statuses(load_settings())}

    def partitions(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions(Partition.MODEL))

    def rows(self, model: str) -> int:
        name = collection_name(self.settings.alias, model)
        self.witness.flush(name)
        [count] = self.witness.query(name, output_fields=["count(*)"], consistency_level="Strong")
        return int(count["count(*)"])

    def embedded(self, model: str) -> dict[str, float]:
        """Sums of the metrics in the model's materialisations of `embeddings`."""
        sums: dict[str, float] = {}
        for record in self.instance.fetch_materializations(
            dg.AssetKey("embeddings"), limit=100
        ).records:
            event = record.asset_materialization
            assert event is not None
            if str(event.partition).startswith(f"{model}|"):
                for name, value in event.metadata.items():
                    if isinstance(value.value, int | float):
                        key = name.removeprefix("rag_assets/")
                        sums[key] = sums.get(key, 0) + value.value
        return sums

    def respec(self, model: str, **changed: Any) -> None:
        specs = yaml.safe_load(self.platform.models_file.read_text())
        specs["models"][model] |= changed
        self.platform.models_file.write_text(yaml.safe_dump(specs))


def test_a_model_is_registered_built_promoted_rolled_back_and_retired(models: Models) -> None:
    assert models.roles() == {LIVE: "live"}
    for _ in range(2):  # every step can be repeated
        models.done("register_model", register={"model": SAME})
        assert models.roles() == {LIVE: "live", SAME: "registered"}
    assert models.partitions() == {LIVE, SAME}
    for _ in range(2):
        models.done("build_model", build={"model": SAME})
        models.settle()
        assert models.roles() == {LIVE: "live", SAME: "candidate"}
    assert models.rows(SAME) == models.rows(LIVE) > 12
    models.done("evaluate_candidates")
    for _ in range(2):
        models.done("promote", live_alias={"model": SAME, "by": "me"})
        assert models.roles() == {LIVE: "previous", SAME: "live"}
    for _ in range(2):
        models.done("rollback", live_alias={"rollback": True, "leave": SAME})
        assert models.roles() == {LIVE: "live", SAME: "previous"}
    for _ in range(2):
        models.done("retire_model", retire={"model": SAME})
        assert models.roles() == {LIVE: "live", SAME: "retired"}
    assert models.partitions() == {LIVE}
    names = models.witness.list_collections()
    assert collection_name(models.settings.alias, SAME) not in names
    lake = Lake(open_object_store(models.settings.lake))
    for asset in ("embeddings", "collection"):
        assert {key[0] for key in lake.metas(asset, {})} == {LIVE}


def test_a_key_of_equal_signature_is_built_from_the_vectors_that_there_are(models: Models) -> None:
    models.build(SAME)

    metrics = models.embedded(SAME)
    assert metrics["computed"] == 0
    assert metrics["reused"] == models.embedded(LIVE)["computed"] > 0


def test_a_build_reads_stored_chunks_and_never_the_source(models: Models) -> None:
    for number in range(12):
        models.platform.delete(f"{number}.md")  # and nobody lists the folder
    models.done("register_model", register={"model": SAME})
    models.done("build_model", build={"model": SAME})
    while requests := models.index.tick().run_requests:
        for request in requests:
            models.index.run(request)

    assert models.rows(SAME) == models.rows(LIVE) > 12


@pytest.mark.parametrize(
    ("job", "ops", "complaint"),
    [
        ("retire_model", {"retire": {"model": LIVE}}, f"{LIVE} is live: queries are answered"),
        ("build_model", {"build": {"model": SAME}}, f"'{SAME}' cannot be built: it is not regist"),
        ("cancel_build", {"cancel": {"model": LIVE}}, f"{LIVE} is live, not being built"),
        ("rollback", {"live_alias": {"rollback": True}}, "There is nothing to roll back to"),
        (
            "register_model",
            {"register": {"model": "nope-v1"}},
            f"no model 'nope-v1'.*; known models: .*{LIVE}",
        ),
        ("preview_build", {"preview": {"model": "nope-v1"}}, "no model 'nope-v1'"),
        ("promote", {"live_alias": {"model": SAME}}, f"'{SAME}' cannot be promoted: it is not reg"),
    ],
)
def test_a_step_that_is_not_allowed_is_refused_with_the_reason(
    models: Models, job: str, ops: dict[str, Any], complaint: str
) -> None:
    assert re.search(complaint, models.refused(job, **ops))
    assert models.roles() == {LIVE: "live"}


def test_a_model_that_was_never_built_is_not_promoted_by_force_either(models: Models) -> None:
    models.done("register_model", register={"model": SAME})

    config = {"model": SAME, "force": True, "reason": "I want it"}

    assert "was never built. Build it first." in models.refused("promote", live_alias=config)


def test_force_without_a_reason_is_refused(built: Models) -> None:
    message = built.refused("rollback", live_alias={"model": SAME, "force": True})

    assert "`force` requires a `reason`" in message
    assert built.roles()[SAME] == "candidate"


def test_a_key_means_one_spec_for_ever_even_when_it_was_retired(built: Models) -> None:
    built.done("retire_model", retire={"model": SAME})
    built.respec(SAME, query_prefix="query: ")

    message = built.refused("register_model", register={"model": SAME})

    assert f"{SAME} was registered with signature" in message
    assert "give the changed one a new key" in message


def test_two_builds_at_once_have_to_be_requested(built: Models) -> None:
    built.done("register_model", register={"model": BM25})

    assert f"{SAME} is a candidate already" in built.refused("build_model", build={"model": BM25})

    built.done("build_model", build={"model": BM25, "concurrent": True})
    built.settle()
    assert built.rows(BM25) == built.rows(SAME) == built.rows(LIVE)


def test_a_cancelled_build_ends_its_runs_and_goes_on_where_it_was(models: Models) -> None:
    models.done("register_model", register={"model": BM25})
    models.done("build_model", build={"model": BM25})
    requests = models.index.tick().run_requests or []
    for request in requests:
        models.index.run(request)
    before = models.embedded(BM25)["computed"]
    assert before > 0

    models.done("cancel_build", cancel={"model": BM25})

    assert models.roles()[BM25] == "registered"
    [(shown, _)] = check_evaluations(models.instance, [COMPLETE]).values()
    assert (shown.passed, shown.description) == (True, "There is no candidate to evaluate.")
    assert not models.index.tick().run_requests
    models.build(BM25)
    assert models.embedded(BM25)["computed"] == before
    assert models.rows(BM25) == models.rows(LIVE)


def test_a_run_of_a_retired_model_writes_nothing(models: Models) -> None:
    models.done("register_model", register={"model": BM25})
    models.done("build_model", build={"model": BM25})
    [request, *_] = models.index.tick().run_requests or []
    models.done("retire_model", retire={"model": BM25})
    models.instance.add_dynamic_partitions(Partition.MODEL, [BM25])  # as a late run would find it

    result = models.source.repository.get_job("index_chunks").execute_in_process(
        instance=models.instance, tags=dict(request.tags), raise_on_error=False
    )

    assert request.tags[Tag.RANGE_START].startswith(BM25)
    assert not result.success
    run = models.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[Tag.ENDING] == "permanent"
    names = models.witness.list_collections()
    assert collection_name(models.settings.alias, BM25) not in names


def test_a_candidate_is_evaluated_by_checks_of_the_alias(built: Models) -> None:
    name = collection_name(built.settings.alias, SAME)
    built.witness.delete(name, filter='document_id == "3.md"')

    checks = built.run("evaluate_candidates").get_asset_check_evaluations()

    found = {check.check_name: check for check in checks}
    assert len(found) == len(Rule)
    assert all(check.blocking for check in checks)
    assert not found["gate_complete"].passed
    assert "0 extra" in str(found["gate_complete"].description)
    assert found["gate_signature"].passed


def test_one_rule_of_the_gate_can_be_evaluated_alone(built: Models) -> None:
    result = built.index.repository.get_job("evaluate_candidates").get_subset(
        asset_selection=set(), asset_check_selection={COMPLETE}
    ).execute_in_process(instance=built.instance)  # fmt: skip

    [check] = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("gate_complete", True)


def test_a_refused_promotion_shows_the_evidence_as_a_failed_check_and_moves_nothing(
    built: Models,
) -> None:
    name = collection_name(built.settings.alias, SAME)
    built.witness.delete(name, filter='document_id == "3.md"')

    result = built.run("promote", live_alias={"model": SAME})

    assert not result.success
    [check] = result.get_asset_check_evaluations()
    assert (check.asset_key.to_user_string(), check.check_name) == ("live_alias", "gate")
    assert not check.passed
    assert f"The gate refuses {SAME}: complete" in str(check.description)
    rules = {row.data["rule"]: row.data for row in check.metadata["rag_assets/gate"].records}
    assert "0 extra" in rules["complete"]["evidence"]
    assert not result.asset_materializations_for_node("live_alias")
    assert built.roles() == {LIVE: "live", SAME: "candidate"}


def test_a_forced_promotion_is_recorded_with_who_and_why(built: Models) -> None:
    name = collection_name(built.settings.alias, SAME)
    built.witness.delete(name, filter='document_id == "3.md"')
    why = {"force": True, "reason": "the other engine burns", "by": "Ada"}

    result = built.done("promote", live_alias={"model": SAME, **why})

    [message] = result.asset_materializations_for_node("live_alias")
    metrics = {key.removeprefix("rag_assets/"): v.value for key, v in message.metadata.items()}
    assert (metrics["by"], metrics["reason"]) == ("Ada", "the other engine burns")
    assert metrics["forced"] is True
    assert (metrics["model"], metrics["previous_model"]) == (SAME, LIVE)
    rules = {record.data["rule"]: record.data["passed"] for record in metrics["gate"].records}
    assert rules["complete"] == "NO"
    assert rules["signature"] == "yes"


def test_a_preview_counts_what_has_no_vector_yet(models: Models) -> None:
    def previewed(model: str) -> dict[str, Any]:
        config = {"model": model, "tokens_per_second": 1000.0}
        result = models.done("preview_build", preview=config)
        [output] = [e for e in result.all_events if e.is_successful_output]
        metadata = output.step_output_data.metadata
        return {key: value.value for key, value in metadata.items()}

    new, same = previewed(BM25), previewed(SAME)

    assert new["chunks"] == same["chunks"] == models.rows(LIVE)
    assert new["texts_to_embed"] == models.embedded(LIVE)["computed"]
    assert new["tokens_to_embed"] == models.embedded(LIVE)["tokens"]
    assert new["gpu_hours"] == pytest.approx(new["tokens_to_embed"] / 1000 / 3600)
    assert (same["texts_to_embed"], same["gpu_hours"]) == (0, 0.0)
