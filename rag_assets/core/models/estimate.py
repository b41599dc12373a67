"""What building a model's collection will take: time on a GPU, and storage beside the live one."""

from dataclasses import dataclass

from rag_assets.core.models.spec import ModelSpec

FLOAT_BYTES = 4
LINK_BYTES = 4
LAYER_0_LINKS = 2  # times M, in HNSW's lowest layer; those above add a few per cent


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is to be embedded.

    Attributes:
        chunks: Rows of the collection.
        texts: Distinct texts within each shard that have no vector of this signature yet.
        tokens: Of those texts, by the chunker's count.
        row_bytes: UTF-8 bytes of all rows' text fields.
    """

    chunks: int
    texts: int
    tokens: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a build takes.

    Attributes:
        chunks: Rows of the collection.
        texts_to_embed: Texts without a vector.
        tokens_to_embed: Of those texts.
        tokens_per_second: Of one GPU, or whatever the rate was measured on.
        rate_from: Where the rate comes from.
        gpu_hours: Tokens by rate, on one.
        lake_bytes: Vectors in the lake, uncompressed.
        milvus_bytes: Rows, vectors and index in Milvus, in one copy, until a collection is
            retired.
        memory_bytes: Vectors and index in the query nodes' memory, in all copies.
    """

    chunks: int
    texts_to_embed: int
    tokens_to_embed: int
    tokens_per_second: float
    rate_from: str
    gpu_hours: float
    lake_bytes: int
    milvus_bytes: int
    memory_bytes: int


def preview(
    corpus: Corpus, spec: ModelSpec, tokens_per_second: float, rate_from: str, replicas: int
) -> Preview:
    """Estimate a build.

    A row's vector takes 4 bytes a number, and its place in an HNSW graph 2 M links of 4 bytes in
    the lowest layer (Malkov and Yashunin 2018, section 4.2.3). Other index types: without links.
    """
    vectors = corpus.chunks * spec.dimension * FLOAT_BYTES
    links = corpus.chunks * LAYER_0_LINKS * spec.index.params.get("M", 0) * LINK_BYTES
    return Preview(
        chunks=corpus.chunks,
        texts_to_embed=corpus.texts,
        tokens_to_embed=corpus.tokens,
        tokens_per_second=tokens_per_second,
        rate_from=rate_from,
        gpu_hours=corpus.tokens / tokens_per_second / 3600 if tokens_per_second else 0.0,
        lake_bytes=corpus.texts * spec.dimension * FLOAT_BYTES,
        milvus_bytes=2 * vectors
        + links
        + corpus.row_bytes,  # raw vectors are kept beside the index
        memory_bytes=replicas * (vectors + links),
    )
