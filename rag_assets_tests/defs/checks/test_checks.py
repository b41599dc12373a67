"""What the asset checks say, on a platform that is in order and on one that is not."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from rag_assets.adapters.lake.lake import Lake, PartitionKey
from rag_assets.cli.ingestion import open_lifecycle
from rag_assets.core.names import Job, Sensor
from rag_assets.core.tables import CHUNKS
from rag_assets.defs.resources import IndexResource, resolved
from rag_assets.settings import load_settings
from rag_assets_tests.support.embedding_server import embedding_server
from rag_assets_tests.support.filled import Platform, filled, fillings
from rag_assets_tests.support.held import milvus_client
from rag_assets_tests.support.pipeline import WORDLLAMA, wordllama
from rag_assets_tests.support.ticking import Ticking, instance, settle

__all__ = ["filled", "fillings", "instance"]


@pytest.fixture
def settled(filled: Platform) -> Ticking:
    """Three documents, indexed."""
    return filled.sensor(Sensor.SOURCE)


def evaluate(
    ticking: Ticking, job: str = Job.RUN_CHECKS, **config: dict[str, Any]
) -> dict[str, dg.AssetCheckEvaluation]:
    """Run all checks of a job as it does."""
    result = ticking.repository.get_job(job).execute_in_process(
        instance=ticking.instance,
        run_config={"ops": {name: {"config": value} for name, value in config.items()}},
    )
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def test_on_a_platform_that_is_in_order_every_check_passes(settled: Ticking) -> None:
    found = evaluate(settled)

    assert set(found) == {
        "sources",
        "removals",
        "shards_outgrown",
        "quarantine",
        "text",
        "chunk_bounds",
        "cut_off_by_model",
        "vectors",
        "rows_in_sync",
        "metadata",
        "permissions",
        "schema",
        "orphans",
        "lag",
        "live",
    }
    assert all(check.passed for check in found.values()), found
    assert "vectors, all valid" in str(found["vectors"].description)


def test_the_live_model_is_evaluated_by_what_it_finds(settled: Ticking) -> None:
    found = evaluate(settled, "evaluate_live")

    assert set(found) == {"retrieval", "endpoint_parity"}
    assert found["retrieval"].passed
    assert float(str(found["retrieval"].metadata["rag_assets/recall_at_10"].value)) == 1
    assert found["endpoint_parity"].passed
    assert "Not applicable" in str(found["endpoint_parity"].description)


def test_quarantined_documents_are_counted_with_their_age_and_reasons(
    filled: Platform, settled: Ticking
) -> None:
    filled.put("broken.pdf")
    filled.settle()

    check = evaluate(settled)["quarantine"]

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "1 of 4 documents are quarantined" in str(check.description)
    assert check.metadata["rag_assets/rate"].value == 0.25
    [worst] = check.metadata["rag_assets/worst"].records
    assert worst.data == {"folder": "(top)", "outcome": "truncated", "documents": "1"}
    assert 0 <= float(str(check.metadata["rag_assets/oldest_hours"].value)) < 1
    [row] = check.metadata["rag_assets/documents"].records
    assert row.data["document_id"] == "broken.pdf"


def test_rows_that_milvus_lost_fail_a_check_with_the_shard_as_evidence(settled: Ticking) -> None:
    settings = load_settings()
    name = f"{settings.alias}__wordllama_256_v1"
    client = milvus_client(settings.milvus_uri)
    lost = client.query(name, 'document_id == "a.md"', ["chunk_id"], consistency_level="Strong")
    client.delete(name, ids=[row["chunk_id"] for row in lost])

    check = evaluate(settled)["rows_in_sync"]

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    [row] = check.metadata["rag_assets/shards"].records
    assert row.data["missing"] == str(len(lost))
    client.close()


def test_changes_that_took_too_long_fail_the_lag_check(
    filled: Platform, settled: Ticking, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.put("a.md", b"# Edited\n\nSome time ago.\n")
    filled.settle()
    assert evaluate(settled)["lag"].passed
    monkeypatch.setenv("RAG_ASSETS_MAX_LAG_SECONDS", "0.000001")

    check = evaluate(filled.sensor(Sensor.SOURCE))["lag"]

    assert not check.passed
    assert check.metadata["rag_assets/changes"].value == 1


def test_a_few_quarantined_documents_are_a_warning_and_many_an_error(
    filled: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.put("broken.pdf")
    filled.settle()
    monkeypatch.setenv("RAG_ASSETS_MAX_QUARANTINE_RATE", "0.3")

    check = evaluate(filled.sensor(Sensor.SOURCE))["quarantine"]

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)


def test_a_document_with_hardly_any_text_is_shown(filled: Platform, settled: Ticking) -> None:
    filled.put("tiny.md", b"# Scan\n")
    filled.settle()

    check = evaluate(settled)["text"]

    assert not check.passed
    [row] = check.metadata["rag_assets/documents"].records
    assert (row.data["document_id"], row.data["characters"]) == ("tiny.md", "6")


def test_a_check_can_be_run_manually_for_some_shards(filled: Platform, settled: Ticking) -> None:
    filled.put("tiny.md", b"# Scan\n")
    filled.settle()
    shards = [f"s{number:03}" for number in range(3)]

    found = [
        evaluate(settled, parsed_documents_text={"shards": [shard]})["text"].passed
        for shard in shards
    ]

    assert sorted(found) == [False, True, True]


def test_a_shard_that_there_is_not_is_named_beside_those_that_there_are(settled: Ticking) -> None:
    with pytest.raises(Exception, match=r"no shard s999; the shards are s000 to s002"):
        evaluate(settled, parsed_documents_text={"shards": ["s999"]})


def test_chunks_larger_than_their_limits_fail_a_check(settled: Ticking) -> None:
    lake = opened()
    key = PartitionKey("chunks", "s001")
    actual = lake.read(key, CHUNKS)
    assert actual.meta is not None
    wrong = actual.table.with_columns(tokens=actual.table["tokens"] + 10_000)
    lake.commit(key, wrong, actual.meta, actual.token)

    found = evaluate(settled)

    check = found["chunk_bounds"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.metadata["rag_assets/out_of_bounds"].value == wrong.height > 0
    lost = found["cut_off_by_model"]
    assert not lost.passed
    [model] = lost.metadata["rag_assets/models"].records
    assert (model.data["model"], model.data["max_tokens"]) == ("wordllama-256-v1", "1024")


def test_a_vector_that_milvus_holds_wrongly_fails_a_check(settled: Ticking) -> None:
    name = f"{load_settings().alias}__wordllama_256_v1"
    client = milvus_client(load_settings().milvus_uri)
    [row] = client.query(name, 'document_id == "a.md"', ["*"], limit=1, consistency_level="Strong")
    client.upsert(name, [{**row, "vector": [2.0] + [0.0] * 255}])

    check = evaluate(settled)["vectors"]

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert "1 not of length one" in str(check.description)
    assert check.metadata["rag_assets/wordllama-256-v1 not_of_length_one"].value == 1
    client.close()


def test_what_is_left_over_is_shown_and_compacted_away(settled: Ticking) -> None:
    lake, settings = opened(), load_settings()
    key = PartitionKey("parsed_documents", "s000")
    lake.checkpoints.add(key, lake.read(PartitionKey("chunks", "s000"), CHUNKS).table)
    client = milvus_client(settings.milvus_uri)
    name = f"{settings.alias}__wordllama_256_v1"
    [row] = client.query(name, 'document_id == "a.md"', ["*"], limit=1, consistency_level="Strong")
    client.upsert(name, [{**row, "chunk_id": "stray", "shard": "s999"}])

    check = evaluate(settled)["orphans"]

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    kinds = {
        row.data["kind"]: row.data["name"] for row in check.metadata["rag_assets/list"].records
    }
    assert kinds == {"rows": name, "checkpoints": "checkpoints/parsed_documents/s000"}
    compacted = settled.repository.get_job("compact").execute_in_process(instance=settled.instance)
    assert compacted.success
    assert lake.checkpoints.partitions() == set()
    client.delete(name, ids=["stray"])
    assert evaluate(settled)["orphans"].passed
    client.close()


def test_work_that_a_run_will_take_up_again_is_no_orphan(
    filled: Platform, settled: Ticking
) -> None:
    lake = opened()
    for shard in ("s000", "s001", "s002"):
        table = lake.read(PartitionKey("chunks", shard), CHUNKS).table
        lake.checkpoints.add(PartitionKey("parsed_documents", shard), table)
    for number in range(20):
        filled.put(f"new{number}.md")
    settled.tick()  # all shards are stale now

    assert evaluate(settled)["orphans"].passed


def test_an_endpoint_that_gives_other_vectors_than_the_same_model_in_process_fails_a_check(
    filled: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with embedding_server(wordllama()) as server:
        models = yaml.safe_load(load_settings().models_file.read_text())["models"]
        served = {
            "backend": "openai", "name": "wordllama", "endpoint": server.url, "dimension": 256,
        }  # fmt: skip
        path = tmp_path / "models.yaml"
        endpoints = {
            "served-v1": served | {"same_as": WORDLLAMA},
            "prefixed-v1": served | {"same_as": WORDLLAMA, "passage_prefix": "passage: "},
            "alone-v1": served,
        }
        path.write_text(yaml.safe_dump({"models": models | endpoints}))
        monkeypatch.setenv("RAG_ASSETS_MODELS_FILE", str(path))
        ticking = filled.sensor(Sensor.SOURCE)
        with open_lifecycle(filled.instance, load_settings()) as life:
            for model in ("served-v1", "alone-v1"):
                life.register(model)
                life.build(model, concurrent=True)

            same = evaluate(ticking, Job.EVALUATE_LIVE)["endpoint_parity"]
            life.register("prefixed-v1")
            life.build("prefixed-v1", concurrent=True)
            other = evaluate(ticking, Job.EVALUATE_LIVE)["endpoint_parity"]

    assert same.passed
    assert "alone-v1: not applicable" in str(same.description)
    assert float(str(same.metadata["rag_assets/served-v1 worst_cosine"].value)) > 0.999
    assert (other.passed, other.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert float(str(other.metadata["rag_assets/prefixed-v1 worst_cosine"].value)) < 0.999


def opened() -> Lake:
    return resolved(load_settings(), IndexResource).open().lake


def test_on_an_empty_index_checks_say_that_there_is_nothing_to_evaluate(
    instance: dg.DagsterInstance,
) -> None:
    source = Ticking(instance, Sensor.SOURCE)
    settle(source, Ticking(instance, Sensor.INDEX, source.repository))

    found = evaluate(source) | evaluate(source, Job.EVALUATE_LIVE)

    assert all(check.passed for check in found.values()), found
    for name in ("vectors", "lag", "retrieval"):
        assert "othing to evaluate: " in str(found[name].description)
    assert str(found["live"].description).startswith("Nothing has been live yet")
