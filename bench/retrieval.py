"""Is retrieval through the whole pipeline as good as the embedding library used directly?

    python bench/retrieval.py BEIR_FOLDER --model minilm-l6-v1 --documents 1000

The folder is in BEIR's file format: corpus.jsonl, queries.jsonl, qrels/test.tsv. Each document
becomes a file, goes through the real graph, and every judged query is answered twice: by
`Searcher`, and by the library itself (the same model called directly on the same chunks, exact
search). Both rankings are of documents, by their best chunk.

Ceiling: equality. What can differ is the approximate index and the arithmetic of batches.
"""

import argparse
import csv
import json
import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from time import perf_counter

import numpy as np
import numpy.typing as npt
import polars as pl
import wordllama

from rag_assets.adapters.package_files import local_path
from rag_assets.adapters.yaml_files import find_model_spec
from rag_assets.cli import ingestion
from rag_assets.cli import services as dev
from rag_assets.core.models.retrieval import ndcg, recall
from rag_assets.core.models.spec import Backend, ModelSpec
from rag_assets.serving.searcher import Searcher
from rag_assets.settings import Settings, load_settings
from rag_assets_tests.support.lake_files import read_lake

Judgements = dict[str, dict[str, float]]
CHUNKS_ASKED_FOR = 100  # enough that their best ten documents are the best ten of all


def main() -> None:
    """Run the comparison and print it as a table and as JSON."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as home:
        settings = _settings(Path(home), arguments)
        queries, judgements = _write_corpus(
            arguments.beir, settings.home / "documents", arguments.documents
        )
        embedded = dev.milvus_lite(settings) if arguments.milvus is None else []
        with dev.running(embedded, settings):
            started = perf_counter()
            ingestion.ingest(settings)
            seconds = perf_counter() - started
            result = _compare(settings, queries, judgements)
    result |= {
        "model": arguments.model,
        "engine": arguments.milvus or f"Milvus Lite {version('milvus-lite')}",
        "documents": arguments.documents,
        "ingestion_seconds": round(seconds, 1),
        "machine": platform.platform(),
    }
    for name, value in result.items():
        print(f"{name:32} {value}")
    print(json.dumps(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("beir", type=Path, help="folder in BEIR's format")
    parser.add_argument("--model", default="wordllama-256-v1")
    parser.add_argument("--documents", type=int, default=100_000, help="maximum documents")
    parser.add_argument("--milvus", help="URI of a running server; default: start Milvus Lite")
    return parser.parse_args()


def _settings(home: Path, arguments: argparse.Namespace) -> Settings:
    os.environ |= {
        "RAG_ASSETS_HOME": str(home),
        "RAG_ASSETS_MODEL": arguments.model,
        "RAG_ASSETS_MILVUS_URI": arguments.milvus or "http://127.0.0.1:19531",
        "RAG_ASSETS_ALIAS": f"bench_{os.getpid()}",
        "RAG_ASSETS_INCLUDE": '["**"]',
        "HF_HUB_OFFLINE": "1",
    }
    settings = load_settings()
    os.environ["DAGSTER_HOME"] = str(dev.prepare_home(settings))
    return settings


def _write_corpus(beir: Path, folder: Path, documents: int) -> tuple[dict[str, str], Judgements]:
    """Write judged documents first, then others; return the queries and their judgements."""
    with (beir / "qrels/test.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    corpus = {row["_id"]: row for row in _jsonl(beir / "corpus.jsonl")}
    judged = [row["corpus-id"] for row in rows]
    kept = list(dict.fromkeys([*judged, *corpus]))[:documents]
    for name in kept:
        (folder / f"{name}.txt").write_text(f"{corpus[name]['title']}\n\n{corpus[name]['text']}\n")
    judgements: Judgements = {}
    for row in rows:
        if row["corpus-id"] in set(kept):
            judged_for = judgements.setdefault(row["query-id"], {})
            judged_for[f"{row['corpus-id']}.txt"] = float(row["score"])
    texts = {row["_id"]: row["text"] for row in _jsonl(beir / "queries.jsonl")}
    return {name: texts[name] for name in judgements}, judgements


def _jsonl(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _compare(
    settings: Settings, queries: dict[str, str], judgements: Judgements
) -> dict[str, object]:
    chunks = read_lake(settings.home / "lake", "chunks")
    exact = _exact_search(settings, chunks)
    with Searcher.open(settings) as searcher:
        ours = {
            name: _documents([h.document_id for h in searcher.search(text, CHUNKS_ASKED_FOR)])
            for name, text in queries.items()
        }
    direct = {name: exact(text) for name, text in queries.items()}
    result: dict[str, object] = {"chunks": chunks.height, "queries": len(queries)}
    for label, rankings in (("pipeline", ours), ("direct", direct)):
        result[f"{label} nDCG@10"] = round(
            mean(ndcg(rankings[q], judgements[q]) for q in queries), 4
        )
        result[f"{label} recall@10"] = round(
            mean(recall(rankings[q], judgements[q]) for q in queries), 4
        )
    result["same top 10 (share of queries)"] = round(
        mean(set(ours[q][:10]) == set(direct[q][:10]) for q in queries), 4
    )
    return result


def _exact_search(settings: Settings, chunks: pl.DataFrame) -> Callable[[str], list[str]]:
    """Embed the chunks by calling the library directly; return a search by dot product."""
    encode = _library(find_model_spec(settings.models_file, settings.model))
    vectors = encode(chunks["text"].to_list())
    names = chunks["document_id"].to_list()

    def search(question: str) -> list[str]:
        scores = vectors @ encode([question])[0]
        return _documents([names[i] for i in np.argsort(-scores, kind="stable")[:1000]])

    return search


def _library(spec: ModelSpec) -> Callable[[list[str]], npt.NDArray[np.float32]]:
    """Return the model as its library gives it, without any of our code around it."""
    if spec.backend is Backend.WORDLLAMA:
        folder = Path(wordllama.__file__).parent
        small = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)
        return lambda texts: small.embed(texts, norm=True)
    from FlagEmbedding import FlagModel  # noqa: PLC0415 - takes seconds, and torch

    large = FlagModel(str(local_path(spec.name)), pooling_method=spec.pooling, use_fp16=False)
    return lambda texts: np.asarray(large.encode(texts, batch_size=32), dtype=np.float32)


def _documents(ranked: list[str]) -> list[str]:
    """Return each document once, at the place of its best chunk."""
    return list(dict.fromkeys(ranked))


if __name__ == "__main__":
    main()
