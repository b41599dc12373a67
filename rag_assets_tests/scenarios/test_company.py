"""A company's corpus on the running platform: two sources, permissions that change, more shards.

One search after another runs beside everything that happens, as somebody who loses documents.
What one has lost, none finds again, whichever lane, model or shard is being worked on.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_assets.core.identity import shard_of
from rag_assets.core.layout import Layout
from rag_assets.core.metadata.filters import F
from rag_assets.core.metadata.sidecars import SUFFIX
from rag_assets.core.names import Asset, Job, Op, Tag
from rag_assets.core.scheduling.lanes import Lane
from rag_assets.core.sources.source_ids import DEFAULT
from rag_assets.serving.searcher import Searcher
from rag_assets_tests.scenarios.company import (
    ANN,
    BOB,
    describe,
    embedded,
    held_principals,
    kill,
    layout,
    permit,
    permitted,
    put,
    readable,
    rows,
    watching,
)
from rag_assets_tests.scenarios.environment import MODELS, SHARDS, environment_set
from rag_assets_tests.scenarios.platform import Platform, running_platform
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.milvus_servers import (
    MilvusServer,
    full_executable,
    full_server,
    lite_server,
)
from rag_assets_tests.support.s3_server import new_bucket
from rag_assets_tests.support.waiting import awaited

STEADY, CANDIDATE = MODELS[0], MODELS[2]
SALES = "sales"
ON_LITE = pytest.mark.parametrize("company", [lite_server], ids=["lite"], indirect=True)
"""For tests of the platform's part; most have one of the pipeline on the full engine as well."""
METADATA = {"permissions": {"default": "closed"}}
HELD = "HOLD the load here."

pytestmark = pytest.mark.slow


def full(folder: Path) -> MilvusServer:
    return full_server(folder, full_executable())


@pytest.fixture(scope="module", params=[lite_server, full], ids=["lite", "full"])
def company(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str
) -> Iterator[Platform]:
    """A platform with two sources in a bucket and closed permissions, on each engine."""
    home, bucket = tmp_path_factory.mktemp("company"), new_bucket(s3_endpoint)
    urls = {DEFAULT: f"{bucket.url}/docs", SALES: f"{bucket.url}/{SALES}"}
    options = {"endpoint_url": bucket.endpoint, "key": "${S3_KEY}", "secret": "${S3_KEY}"}
    sources = {name: {"url": url, "options": options} for name, url in urls.items()}
    files = {"sources.yaml": {"sources": sources}, "metadata.yaml": METADATA}
    for name, content in files.items():
        (home / name).write_text(yaml.safe_dump(content))
    of_one_source = {"RAG_ASSETS_SOURCE_URL": "", "RAG_ASSETS_SOURCE_OPTIONS": "{}"}
    with running_platform(
        home,
        s3_endpoint,
        engine=request.param,
        bucket=bucket,
        S3_KEY="test",
        RAG_ASSETS_SOURCES_FILE=str(home / "sources.yaml"),
        RAG_ASSETS_METADATA_FILE=str(home / "metadata.yaml"),
        **of_one_source,
    ) as created:
        created.sources = (DEFAULT, SALES)
        for number in range(12):
            put(created, f"{number:02}.md", ANN, BOB)
        created.await_live()
        created.await_convergence()
        yield created


@pytest.fixture(autouse=True)
def in_sync(company: Platform) -> Iterator[None]:
    """Each test ends with rows that are those of the sources, and their permissions as well."""
    yield
    company.await_convergence()
    expected = permitted(company)
    for model in company.models():
        awaited(lambda m=model: held_principals(company, m) == expected, f"permissions of {model}")


@ON_LITE
def test_a_sidecar_comes_before_with_or_after_its_document(company: Platform) -> None:
    permit(company, "before.md", ANN)
    put(company, "with.md", ANN)
    company.put("after.md", document("after.md"))
    awaited(lambda: {"with.md", "after.md"} <= company.indexed().keys(), "the documents")
    assert held_principals(company, STEADY)["after.md"] == set()

    company.put("before.md", document("before.md"))
    permit(company, "after.md", ANN)
    names = ("before.md", "with.md", "after.md")
    awaited(
        lambda: [held_principals(company, STEADY).get(name) for name in names] == [{ANN}] * 3,
        "the permissions",
    )

    chunks = sum(len(company.indexed()[name]) for name in names)
    assert embedded(company, *names) == dict.fromkeys(company.models(), chunks)


@ON_LITE
def test_equal_keys_in_two_sources_are_two_documents(company: Platform) -> None:
    put(company, "same.md", ANN, text="# Same\n\nThis one is of the first source.\n")
    put(company, f"{SALES}//same.md", BOB, text="# Same\n\nThis one is of sales.\n")
    company.await_convergence()

    with environment_set(company.environment), Searcher.open(company.settings) as searcher:
        both = searcher.search("same", 100, where=F.source == SALES, principals=[ANN, BOB])
        assert {hit.document_id for hit in both} == {f"{SALES}//same.md"}
        assert not searcher.search("same", 100, where=F.source == SALES, principals=[ANN])

    company.delete("same.md")
    company.await_convergence()
    assert company.indexed()[f"{SALES}//same.md"] == ["# Same\n\nThis one is of sales."]


def test_a_revoked_permission_passes_a_bulk_load_in_both_lanes(company: Platform) -> None:
    """One document is edited in the load that is held, another is not."""
    company.await_idle()
    before = embedded(company, "01.md")
    company.embeddings.hold(HELD, STEADY)
    with watching(company, ANN) as watch:
        for number in range(45):
            put(company, f"load/{number:02}.md", BOB, text=document(f"load {number}"))
        company.put("00.md", document("00.md, edited"))
        put(company, "load/held.md", BOB, text=f"# Held\n\n{HELD}\n")
        awaited(lambda: company.embeddings.holding(HELD, STEADY), "the load to be held")
        lanes = {run.tags.get(Tag.LANE) for run in company.unfinished_runs()}
        assert Lane.BULK in lanes, lanes

        permit(company, "00.md", BOB)
        permit(company, "01.md", BOB)
        watch.await_gone("00.md", "01.md")
        assert company.embeddings.holding(HELD, STEADY)
        company.embeddings.release(HELD, STEADY)
        company.await_convergence()

        watch.assert_never_found_again("00.md", "01.md")
    assert embedded(company, "01.md") == before


def test_a_revoked_permission_passes_the_build_of_a_model_and_the_switch(
    company: Platform,
) -> None:
    company.await_idle()
    before = embedded(company, "02.md")
    company.embeddings.hold("Section 0 of 05.md", CANDIDATE)
    with watching(company, ANN) as watch:
        company.register(CANDIDATE)
        awaited(lambda: company.embeddings.holding("Section 0 of 05.md", CANDIDATE), "the build")
        permit(company, "02.md", BOB)
        permit(company, "05.md", BOB)
        watch.await_gone("02.md", "05.md")
        assert company.embeddings.holding("Section 0 of 05.md", CANDIDATE)
        company.embeddings.release("Section 0 of 05.md", CANDIDATE)
        company.await_convergence()
        chunks = len(company.indexed()["02.md"])
        assert embedded(company, "02.md") == before | {CANDIDATE: chunks}
        awaited(lambda: company.in_sync(CANDIDATE), "the candidate to be in sync")

        lost = ["02.md", "05.md", *during_promotion(company, ["06.md", "07.md", "08.md"])]
        watch.await_gone(*lost)
        awaited(
            lambda: watch.searcher.release().spec.key == CANDIDATE, "searches to follow the switch"
        )
        assert watch.search().isdisjoint(lost)

        watch.assert_never_found_again(*lost)


def during_promotion(company: Platform, names: Sequence[str]) -> Sequence[str]:
    """Revoke permissions one after another while the candidate is promoted; return whose."""
    config = {"model": CANDIDATE, "force": True, "reason": "a test"}
    run = company.launch(Job.PROMOTE, {"ops": {Asset.LIVE_ALIAS: {"config": config}}})
    for name in names:
        permit(company, name, BOB)
        time.sleep(1)  # so that they come at different moments of the run
    assert company.await_run(run).is_success, company.messages(run)
    return names


@ON_LITE
def test_a_source_that_is_removed_while_it_is_listed_leaves_nothing_behind(
    company: Platform,
) -> None:
    for number in range(8):
        put(company, f"{SALES}//{number}.md", ANN)
    company.await_convergence()
    company.await_idle()
    others = [name for name in company.indexed() if not name.startswith(SALES)]
    before = embedded(company, *others)
    removed = company.launch(
        Job.REMOVE_SOURCE, {"ops": {Op.REMOVE_SOURCE: {"config": {"source": SALES}}}}
    )
    added = 0
    while not company.instance.get_run_by_id(removed).is_finished:
        company.put(f"{SALES}//later-{added}.md", document(f"later {added}"))
        added += 1
        time.sleep(0.1)
    assert company.await_run(removed).is_success, company.messages(removed)
    company.sources = (DEFAULT,)
    company.await_convergence()
    company.await_idle()

    assert added > 1
    assert embedded(company, *others) == before


@ON_LITE
def test_a_doubling_that_is_killed_is_finished_while_edits_and_searches_go_on(
    company: Platform,
) -> None:
    company.await_idle()
    others = sorted(company.indexed().keys() - {"04.md", "11.md"})
    before = embedded(company, *others)
    with watching(company, ANN) as watch:
        config = {"ops": {Op.DOUBLE: {"config": {"shards": 2 * SHARDS}}}}
        run = company.launch(Job.DOUBLE_SHARDS, config)
        company.put("edited.md", document("edited.md"))
        permit(company, "09.md", BOB)
        awaited(lambda: layout(company)[0] == 2 * SHARDS, "the shards to be doubled")
        kill(company, run)
        company.put("04.md", document("04.md, edited"))
        permit(company, "10.md", BOB)
        company.await_run(run)
        company.replace_machine()
        awaited(lambda: layout(company)[1], "the sensor to finish it")
        company.delete("11.md")
        company.await_convergence()

        assert all(found for found in watch.found)
        watch.await_gone("09.md", "10.md")
        watch.assert_never_found_again("09.md", "10.md")
    assert embedded(company, *others) == before
    awaited(lambda: not misplaced(company), "all rows to be in the shard of their document")


def misplaced(platform: Platform) -> list[dict[str, Any]]:
    shards = Layout(2 * SHARDS, begun_with=SHARDS).keys
    found = (row for model in platform.models() for row in rows(platform, model))
    return [row for row in found if row["shard"] != shard_of(row["document_id"], shards)]


@ON_LITE
def test_a_new_field_reaches_the_index_without_embedding_while_queries_go_on(
    company: Platform,
) -> None:
    company.await_idle()
    live = company.live()
    assert live is not None
    declared = METADATA | {"fields": {"department": {"type": "string"}}}
    (company.home / "metadata.yaml").write_text(yaml.safe_dump(declared))
    company.replace_machine()
    names = sorted(company.indexed())
    before = embedded(company, *names)
    with watching(company, BOB) as watch:
        company.launch(Job.REBUILD_MODEL, {"ops": {Op.REBUILD: {"config": {"model": live}}}})
        rebuilt = f"{live}.2"
        awaited(lambda: rebuilt in company.models() and company.in_sync(rebuilt), "the rebuild")
        describe(company, "03.md", principals=[BOB], department="legal")
        company.await_convergence()
        company.await_idle()
        assert embedded(company, *names) == before

        config = {"model": rebuilt, "force": True, "reason": "a test"}
        run = company.launch(Job.PROMOTE, {"ops": {Asset.LIVE_ALIAS: {"config": config}}})
        assert company.await_run(run).is_success, company.messages(run)
        legal = F.department == "legal"
        with environment_set(company.environment), Searcher.open(company.settings) as searcher:
            hits = searcher.search("report", 100, where=legal, principals=[BOB])
        assert {hit.document_id for hit in hits} == {"03.md"}
        assert all(watch.found)


@ON_LITE
def test_an_erased_document_is_certified_to_be_gone(company: Platform) -> None:
    put(company, "erased.md", ANN, text="# Erased\n\nA secret of somebody who left.\n")
    company.await_convergence()
    company.delete("erased.md")
    company.delete("erased.md" + SUFFIX)
    company.await_convergence()
    company.await_idle()

    erased = subprocess.run(
        [Path(sys.executable).parent / "rag-assets", "erase", "erased.md", "--yes"],
        env=os.environ | company.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "Erased. Certificate" in erased.stdout, erased.stdout + erased.stderr
    bucket = company.bucket.filesystem()
    bucket.invalidate_cache()
    lake = [bucket.cat_file(path) for path in bucket.find(f"{company.bucket.name}/lake")]
    files = [path.read_bytes() for path in (company.home / "dagster").rglob("*") if path.is_file()]
    for content in map(readable, [*lake, *files]):
        assert "secret of somebody" not in content
        assert "erased.md" not in content
