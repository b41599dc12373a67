"""Queries: what is found, and what the error says when nothing can be."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from rag_assets.adapters.yaml_files import find_model_spec
from rag_assets.core.errors import ConfigurationError, SearchError, VectorStoreError
from rag_assets.core.models.retrieval import ndcg
from rag_assets.core.models.spec import ModelSpec
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import Settings
from rag_assets_tests.support.milvus_servers import free_ports
from rag_assets_tests.support.pipeline import WORDLLAMA, Pipeline

DEMO = Path(__file__).parents[2] / "rag_assets" / "demo"


def find_spec(key: str) -> ModelSpec:
    return find_model_spec(Settings().models_file, key)


def searcher(pipeline: Pipeline, find: Callable[[str], ModelSpec] = find_spec) -> Searcher:
    return Searcher(
        pipeline.store, pipeline.alias, find, lambda _: pipeline.embedder, refresh_seconds=0
    )


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, milvus_uri: str) -> Iterator[Pipeline]:
    """The demo's documents, live, on each engine."""
    with Pipeline.create(tmp_path_factory.mktemp("live"), milvus_uri) as created:
        for path in (DEMO / "documents").rglob("*"):
            if path.is_file():
                created.write(str(path.relative_to(DEMO / "documents")), path.read_bytes())
        created.run()
        created.build()
        created.promote()
        yield created


def test_retrieval_equals_exact_search_with_the_library_itself(live: Pipeline) -> None:
    chunks = live.chunks().sort("chunk_id")
    library = live.embedder._backend
    vectors = np.asarray(library.encode(chunks["text"].to_list()))
    questions = yaml.safe_load((DEMO / "questions.yaml").read_text())
    ours, exact = [], []
    for entry in questions:
        scores = vectors @ np.asarray(library.encode([entry["question"]]))[0]
        best = np.argsort(-scores, kind="stable")[:10]
        hits = searcher(live).search(entry["question"], 10)

        assert {hit.chunk_id for hit in hits} == set(chunks["chunk_id"].gather(best))
        assert [hit.score for hit in hits] == pytest.approx(scores[best].tolist(), abs=1e-3)
        relevant = dict.fromkeys(entry["documents"], 1.0)
        ours.append(ndcg([hit.document_id for hit in hits], relevant))
        exact.append(ndcg(chunks["document_id"].gather(best).to_list(), relevant))
    assert abs(np.mean(ours) - np.mean(exact)) < 0.005


def test_a_hit_says_where_its_text_stands(live: Pipeline) -> None:
    hit = searcher(live).search("How many days of annual leave are there?", 1)[0]

    document = live.parsed().filter(document_id=hit.document_id).row(0, named=True)
    assert document["markdown"][hit.start : hit.end] == hit.text
    assert hit.document_id == "handbook/leave-policy.md"
    assert hit.heading == "Leave policy > Annual leave"
    assert hit.source_uri == (live.documents / hit.document_id).as_uri()


def test_a_prefix_limits_the_search_to_a_folder(live: Pipeline) -> None:
    hits = searcher(live).search("How many days of annual leave?", 10, document_prefix="finance/")

    assert len(hits) == 10
    assert all(hit.document_id.startswith("finance/") for hit in hits)


def test_without_an_alias_the_error_says_that_nothing_is_live(pipeline: Pipeline) -> None:
    with pytest.raises(SearchError, match=r"Nothing is live.*Materialise live_alias"):
        searcher(pipeline).search("anything")


@pytest.fixture
def small(pipeline: Pipeline) -> Pipeline:
    pipeline.write("a.md", "# Kiln\n\nThe kiln is fired on Fridays.\n")
    pipeline.run()
    pipeline.build()
    pipeline.promote()
    return pipeline


def test_an_encoder_of_another_spec_is_never_used(small: Pipeline) -> None:
    def changed(key: str) -> ModelSpec:
        return find_spec(key).model_copy(update={"query_prefix": "query: "})

    with pytest.raises(SearchError, match="another spec of wordllama"):
        searcher(small, changed).search("kiln")


def test_a_live_model_missing_from_the_models_file_is_named(
    small: Pipeline, tmp_path: Path
) -> None:
    other = tmp_path / "models.yaml"
    other.write_text("models:\n  other-v1: {backend: wordllama, name: l2_supercat, dimension: 256}")

    with pytest.raises(ConfigurationError, match=f"no model '{WORDLLAMA}'.*other-v1"):
        searcher(small, lambda key: find_model_spec(other, key)).search("kiln")


@pytest.mark.parametrize(("question", "limit"), [("", 5), (" \n", 5), ("kiln", 0), ("kiln", 1001)])
def test_a_query_that_cannot_be_answered_is_refused(
    small: Pipeline, question: str, limit: int
) -> None:
    with pytest.raises(SearchError, match=r"question is empty|limit must be"):
        searcher(small).search(question, limit)


def test_an_unreachable_milvus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("RAG_ASSETS_MILVUS_URI", f"http://127.0.0.1:{port}")

    with pytest.raises(VectorStoreError, match=f"127.0.0.1:{port}"):
        Searcher.open()
