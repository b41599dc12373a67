"""An estimate of what building a model's collection takes: GPU time, storage and memory."""

from dataclasses import dataclass

from rag_assets.core.models.spec import ModelSpec

FLOAT_BYTES = 4
LINK_BYTES = 4
LAYER_0_LINKS = 2  # times M, in the lowest layer of HNSW; the layers above add a few per cent


@dataclass(frozen=True, slots=True)
class Corpus:
    """The size of what is to be embedded and stored.

    Attributes:
        chunks: Number of chunks, each of which becomes a row of the collection.
        texts: Number of texts, distinct within a shard, without a vector of this signature yet.
        tokens: Tokens of those texts, as counted by the chunker.
        row_bytes: UTF-8 bytes of the text fields of all rows.
    """

    chunks: int
    texts: int
    tokens: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Preview:
    """The estimated time and storage of a build.

    Attributes:
        chunks: Rows of the collection.
        texts_to_embed: Texts without a vector.
        tokens_to_embed: Tokens of those texts.
        tokens_per_second: Throughput of one GPU, or of the hardware it was measured on.
        rate_from: The origin of that throughput.
        gpu_hours: Hours to embed the tokens at that throughput, on one GPU.
        lake_bytes: Size of the vectors in the lake, uncompressed.
        milvus_bytes: Size of one copy of rows, vectors and index in Milvus, in addition to the
            live collection.
        memory_bytes: Size of vectors and index in the query nodes' memory, over all replicas.
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

    A vector takes 4 bytes per component, and its node in an HNSW graph 2 M links of 4 bytes in the
    lowest layer (Malkov and Yashunin 2018, section 4.2.3). Other index types count without links.
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
        # Milvus stores the raw vectors in addition to the index.
        milvus_bytes=2 * vectors + links + corpus.row_bytes,
        memory_bytes=replicas * (vectors + links),
    )
