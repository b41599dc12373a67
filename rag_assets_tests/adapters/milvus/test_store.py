"""One contract, kept by both engines: Milvus Lite and the full server."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from rag_assets.adapters.milvus import connection
from rag_assets.adapters.milvus.errors import CollectionMissingError
from rag_assets.adapters.milvus.expressions import has_prefix
from rag_assets.adapters.milvus.rows import (
    MAX_REQUEST_BYTES,
    TEXT_LIMITS,
    collection_schema,
    field_types,
    requests,
)
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.errors import VectorStoreError
from rag_assets.core.models.spec import IndexSpec, Metric
from rag_assets_tests.support.milvus_servers import MilvusServer, free_ports, lite_server

DIMENSION = 4
PROPERTIES = {"signature": "sha256:ab12", "source": "s3://bucket/prä'fix\"\\"}
NUMBERS = count()
AWKWARD = [
    "plain/a.md",
    "plain/ab.md",
    'quo"te/a.md',
    "quo'te/a.md",
    "back\\slash/a.md",
    "back\\nslash.md",
    "back\\",
    "per%cent/a.md",
    "per_cent/a.md",
    "perXcent/a.md",
    "new\nline\ttab\rreturn.md",
    "ünï/日本語/😀.md",
    "ünï/日本語/😁.md",
    "\U0010ffff/last.md",
    "\ud7ff/before-surrogates.md",
    "{brace}/$meta",
    "bell\x07.md",
    '"',
    "\\",
    "%",
]


@pytest.fixture(scope="module")
def store(milvus_uri: str) -> Iterator[MilvusStore]:
    with MilvusStore.connect(milvus_uri) as connected:
        yield connected


@pytest.fixture(scope="module")
def collection(store: MilvusStore) -> str:
    """One for many tests: to make and load one takes the full engine seconds."""
    made = fresh_name()
    store.create(made, dimension=DIMENSION, properties=PROPERTIES)
    return made


@pytest.fixture
def name(store: MilvusStore, collection: str) -> Iterator[str]:
    """An empty collection."""
    yield collection
    store._client.delete(collection, filter='chunk_id >= ""')
    assert store.count(collection) == 0


def fresh_name() -> str:
    return f"contract_{next(NUMBERS)}"


def table(ids: list[str], *, vectors: np.ndarray | None = None, **columns: object) -> pl.DataFrame:
    """Rows with these chunk ids; a column given by name holds one value or a value per row."""
    values: dict[str, object] = {
        "chunk_id": ids,
        "document_id": "doc.md",
        "shard": "s000",
        "title": "Title",
        "heading": "Heading",
        "text": "text",
        "source_uri": "file:///doc.md",
        "row_digest": "digest",
        "ordinal": 0,
        "start": 1,
        "end": 2,
        "page": 3,
        "last_page": 4,
    }
    filled = {
        key: value if isinstance(value, list) else [value] * len(ids)
        for key, value in (values | columns).items()
    }
    if vectors is None:
        vectors = np.ones((len(ids), DIMENSION))
    vector = pl.Series(vectors.astype(np.float32).tolist(), dtype=pl.Array(pl.Float32, DIMENSION))
    return pl.DataFrame(filled).with_columns(vector=vector)


def digests(store: MilvusStore, name: str, shard: str = "s000") -> dict[str, str]:
    return dict(store.shard_rows(name, shard).iter_rows())


# Collections


def test_creating_the_same_collection_again_changes_nothing(store: MilvusStore, name: str) -> None:
    store.upsert(name, table(["a"]))
    store.create(name, dimension=DIMENSION, properties=PROPERTIES)
    assert store.count(name) == 1


def test_a_collection_is_described_with_its_properties(store: MilvusStore, name: str) -> None:
    info = store.info(name)
    assert (info.name, info.dimension, info.loaded) == (name, DIMENSION, True)
    assert info.properties.items() >= PROPERTIES.items()
    assert name in store.collections()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"dimension": 8}, "field vector is FLOAT_VECTOR(4), not FLOAT_VECTOR(8)"),
        ({"properties": {"signature": "x"}}, "property signature is sha256:ab12, not x"),
        ({"properties": {"extra": "x"}}, "property extra is None, not x"),
    ],
)
def test_another_collection_of_the_same_name_is_refused(
    store: MilvusStore, name: str, other: dict[str, object], message: str
) -> None:
    desired = {"dimension": DIMENSION, "properties": PROPERTIES} | other
    with pytest.raises(VectorStoreError) as caught:
        store.create(name, **desired)
    assert message in str(caught.value)


def test_another_index_is_told_and_the_collection_used_as_it_is(
    store: MilvusStore, name: str
) -> None:
    index = IndexSpec(metric=Metric.IP)

    store.create(name, dimension=DIMENSION, properties=PROPERTIES, index=index)

    assert store.outdated(name, index) == "metric_type is COSINE, not IP"
    assert store.outdated(name, IndexSpec()) == ""


def test_two_who_create_a_collection_at_once_both_get_it(store: MilvusStore) -> None:
    name = fresh_name()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: store.create(name, dimension=DIMENSION), range(4)))
    assert store.info(name).loaded
    store.drop(name)


def test_a_missing_collection_is_told_apart_from_other_errors(store: MilvusStore) -> None:
    vector = np.ones(DIMENSION, np.float32)
    calls: list[Callable[[], object]] = [
        lambda: store.info("nowhere"),
        lambda: store.search("nowhere", vector, 3),
        lambda: store.count("nowhere"),
        lambda: store.shard_rows("nowhere", "s000"),
        lambda: store.upsert("nowhere", table(["a"])),
        lambda: store.delete("nowhere", ["a"]),
        lambda: store.flush("nowhere"),
    ]
    for call in calls:
        with pytest.raises(CollectionMissingError, match="nowhere"):
            call()
    store.drop("nowhere")


# Rows


def test_what_was_written_is_read_at_once(store: MilvusStore, name: str) -> None:
    for batch in range(5):
        ids = [f"{batch}-{n}" for n in range(50)]
        store.upsert(name, table(ids))
        assert store.count(name) == 50 * (batch + 1)
        assert set(ids) <= set(digests(store, name))


def test_an_upsert_replaces_the_row_of_the_same_key(store: MilvusStore, name: str) -> None:
    store.upsert(name, table(["a", "b"], row_digest="old"))
    store.flush(name)
    store.upsert(name, table(["b", "c"], row_digest="new", vectors=np.eye(2, DIMENSION)))
    assert digests(store, name) == {"a": "old", "b": "new", "c": "new"}
    assert store.count(name) == 3
    found = store.vectors(name, ["b", "missing"])
    assert list(found) == ["b"]
    np.testing.assert_array_equal(found["b"], [1, 0, 0, 0])


def test_only_the_named_rows_are_deleted(store: MilvusStore, name: str) -> None:
    ids = [f"{n:04}" for n in range(2_500)]
    store.upsert(name, table(ids))
    store.delete(name, [*ids[:1_200], "missing"])
    assert set(digests(store, name)) == set(ids[1_200:])
    store.delete(name, [])
    assert store.count(name) == 1_300


def test_shards_do_not_mix(store: MilvusStore, name: str) -> None:
    store.upsert(name, table(["a", "b", "c"], shard=["s000", "s001", "s000"]))
    assert set(digests(store, name, "s000")) == {"a", "c"}
    assert set(digests(store, name, "s001")) == {"b"}
    assert (store.count(name, "s000"), store.count(name, "s001"), store.count(name)) == (2, 1, 3)
    assert store.shard_rows(name, "s002").schema == {"chunk_id": pl.String, "row_digest": pl.String}


@pytest.mark.slow
def test_twenty_thousand_rows_of_a_shard_are_read_completely(store: MilvusStore, name: str) -> None:
    ids = [f"{n * 7_919 % 20_000:05}" for n in range(20_000)]
    store.upsert(name, table(ids, row_digest=[f"d{key}" for key in ids]))
    store.upsert(name, table(["other"], shard="s001"))
    rows = store.shard_rows(name, "s000")
    assert rows.height == 20_000
    assert dict(rows.iter_rows()) == {key: f"d{key}" for key in ids}
    assert store.count(name, "s000") == 20_000


def test_requests_are_bounded_however_large_the_rows_are() -> None:
    rows = table([f"{n:04}" for n in range(300)], text="x" * TEXT_LIMITS["text"])
    requested = requests(rows, field_types(collection_schema(DIMENSION).to_dict()))
    sizes = [len(columns[0]["values"]) * TEXT_LIMITS["text"] for columns in requested]
    assert sum(sizes) == 300 * TEXT_LIMITS["text"]
    assert len(sizes) > 1
    assert max(sizes) < MAX_REQUEST_BYTES


def test_awkward_text_comes_back_as_it_was(store: MilvusStore, name: str) -> None:
    ids = [f"{n}" for n in range(len(AWKWARD))]
    store.upsert(name, table(ids, document_id=AWKWARD, text=AWKWARD, title=AWKWARD))
    hits = store.search(name, np.ones(DIMENSION), len(ids), consistency="Strong")
    assert {hit.chunk_id: (hit.document_id, hit.text, hit.title) for hit in hits} == {
        key: (text, text, text) for key, text in zip(ids, AWKWARD, strict=True)
    }


def test_awkward_keys_and_shards_can_be_read_and_deleted(store: MilvusStore, name: str) -> None:
    store.upsert(name, table(AWKWARD, shard=AWKWARD))
    assert set(store.vectors(name, AWKWARD)) == set(AWKWARD)
    for key in AWKWARD:
        assert set(digests(store, name, key)) == {key}
    store.delete(name, AWKWARD[::2])
    assert set(store.vectors(name, AWKWARD)) == set(AWKWARD[1::2])


@pytest.mark.parametrize("field", sorted(TEXT_LIMITS))
def test_text_is_taken_up_to_the_last_byte_and_not_beyond(
    store: MilvusStore, name: str, field: str
) -> None:
    full = "ü" * (TEXT_LIMITS[field] // 2) + "x" * (TEXT_LIMITS[field] % 2)
    store.upsert(name, table(["a"], **{field: [full]}))
    with pytest.raises(VectorStoreError, match=rf"^{field} of chunk .* longer than .* bytes"):
        store.upsert(name, table(["fits", "too-long"], **{field: ["fits", full + "x"]}))
    assert store.count(name) == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (table(["a", "a"]), "chunk_id of chunk 'a' occurs twice"),
        (table(["a", "b"], title=["t", None]), "title of chunk 'b' is null"),
        (
            table(["a"], vectors=np.full((1, DIMENSION), np.nan)),
            "vector of chunk 'a' has .* finite",
        ),
        (table(["a"]).drop("page"), "lack the columns page"),
    ],
    ids=["twice", "null", "not-finite", "no-column"],
)
def test_rows_that_an_engine_would_spoil_are_refused(
    store: MilvusStore, name: str, rows: pl.DataFrame, message: str
) -> None:
    with pytest.raises(VectorStoreError, match=message):
        store.upsert(name, rows)
    assert store.count(name) == 0


def test_writing_nothing_is_no_error(store: MilvusStore, name: str) -> None:
    store.upsert(name, table([]))
    assert store.count(name) == 0
    assert store.vectors(name, []) == {}


def test_writers_at_once_lose_nothing_and_read_their_own_writes(
    milvus_uri: str, store: MilvusStore, name: str
) -> None:
    def write(shard: str) -> None:
        with MilvusStore.connect(milvus_uri) as own:
            for turn in range(10):
                ids = [f"{shard}-{n}" for n in range(turn * 20, turn * 20 + 40)]
                own.upsert(name, table(ids, shard=shard, text="x" * 2_000, row_digest=f"{turn}"))
                own.delete(name, ids[::4])
                read = digests(own, name, shard)
                assert {key: read.get(key) for key in ids} == {
                    key: None if key in ids[::4] else f"{turn}" for key in ids
                }

    shards = [f"s{n:03}" for n in range(4)]
    with ThreadPoolExecutor(len(shards)) as pool:
        writers = [pool.submit(write, shard) for shard in shards]
        while not all(writer.done() for writer in writers):
            store.flush(name)
    for writer in writers:
        writer.result()
    assert {store.count(name, shard) for shard in shards} == {165}


# Search


def test_hits_are_ordered_and_scored_as_exact_cosine(store: MilvusStore, name: str) -> None:
    random = np.random.default_rng(7)
    vectors, query = random.normal(size=(300, DIMENSION)), random.normal(size=DIMENSION)
    ids = [f"{n}" for n in range(len(vectors))]
    store.upsert(name, table(ids, vectors=vectors, ordinal=list(range(300))))
    store.flush(name)
    exact = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    best = np.argsort(-exact)[:20]
    hits = store.search(name, query, 20, consistency="Strong")
    assert [hit.chunk_id for hit in hits] == [ids[n] for n in best]
    assert [hit.ordinal for hit in hits] == best.tolist()
    np.testing.assert_allclose([hit.score for hit in hits], exact[best], atol=1e-5)
    first = hits[0]
    assert (first.title, first.heading, first.source_uri) == ("Title", "Heading", "file:///doc.md")
    assert (first.start, first.end, first.page) == (1, 2, 3)


def test_a_hit_names_its_first_and_last_page(store: MilvusStore, name: str) -> None:
    old, new = None, 4  # what a partition of an earlier release has, and one of this
    store.upsert(name, table(["a", "b"], page=[3, 5], last_page=[new, old]))

    hits = store.search(name, np.ones(DIMENSION), 2, consistency="Strong")

    assert {hit.chunk_id: (hit.page, hit.last_page) for hit in hits} == {"a": (3, 4), "b": (5, 5)}


def test_a_collection_of_an_earlier_release_is_written_and_searched_as_it_is(
    store: MilvusStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = fresh_name()
    with monkeypatch.context() as release:
        integers = ("ordinal", "start", "end", "page")
        release.setattr("rag_assets.adapters.milvus.rows.INTEGER_FIELDS", integers)
        release.setattr("rag_assets.adapters.milvus.rows.add_columns", lambda *_: None)
        store.create(old, dimension=DIMENSION, properties=PROPERTIES)

    store.create(old, dimension=DIMENSION, properties=PROPERTIES)
    store.upsert(old, table(["a"]))
    [hit] = store.search(old, np.ones(DIMENSION), 2, consistency="Strong")

    assert "last_page" not in store.field_types(old)
    assert "the field language is missing" in store.outdated(old, IndexSpec())
    assert (hit.page, hit.last_page, hit.metadata) == (3, 3, {})
    store.drop(old)


def test_a_prefix_finds_exactly_the_documents_that_start_with_it(
    store: MilvusStore, name: str
) -> None:
    store.upsert(name, table([f"{n}" for n in range(len(AWKWARD))], document_id=AWKWARD))
    assert store.count(name) == len(AWKWARD)  # a strong read: what follows need not wait again
    query = np.ones(DIMENSION)
    prefixes = {document[:length] for document in AWKWARD for length in (0, 1, 4, 5, 99)}
    for prefix in sorted(prefixes):
        condition = has_prefix("document_id", prefix)
        hits = store.search(name, query, 50, condition=condition, consistency="Eventually")
        assert {hit.document_id for hit in hits} == {d for d in AWKWARD if d.startswith(prefix)}


# Aliases


def test_an_alias_is_set_switched_and_looked_up(store: MilvusStore) -> None:
    name, other, alias = fresh_name(), fresh_name(), "live_contract"
    store.create(name, dimension=DIMENSION)
    store.create(other, dimension=DIMENSION)
    assert store.alias_target(alias) is None
    for target in (name, name, other, name):
        store.set_alias(alias, target)
        assert store.alias_target(alias) == target
    with pytest.raises(CollectionMissingError, match="nowhere"):
        store.set_alias(alias, "nowhere")
    assert store.alias_target(alias) == name
    with pytest.raises(VectorStoreError, match=f"in use as {alias}"):
        store.drop(name)
    store.set_alias(alias, other)
    store.drop(name)
    assert not store.exists(name)
    store._client.drop_alias(alias)
    store.drop(other)


# Servers that are away


def test_a_refusing_address_is_reported_at_once_without_credentials() -> None:
    [port] = free_ports(1)
    begun = time.monotonic()
    with pytest.raises(VectorStoreError, match=f"http://127.0.0.1:{port}") as caught:
        MilvusStore.connect(f"http://user:secret@127.0.0.1:{port}", "user:secret", timeout=60)
    assert "secret" not in str(caught.value)
    assert time.monotonic() - begun < 30


def test_a_silent_address_is_reported_within_the_timeout() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        begun = time.monotonic()
        with pytest.raises(VectorStoreError, match="within 1 s"):
            MilvusStore.connect(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=1)
        assert time.monotonic() - begun < 8  # the default is 10


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[MilvusServer]:
    """A server that the test may kill; Milvus Lite, because the other takes a minute to recover."""
    server = lite_server(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.mark.slow
def test_a_killed_server_is_reported_and_used_again_with_its_rows_when_it_is_back(
    own_server: MilvusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "REQUEST_TIMEOUT", 20.0)
    with MilvusStore.connect(own_server.uri) as store:
        store.create("kept", dimension=DIMENSION, properties=PROPERTIES)
        store.upsert("kept", table(["a", "b"], vectors=np.eye(2, DIMENSION)))
        store.set_alias("live", "kept")
        own_server.kill()
        with pytest.raises(VectorStoreError, match="connection lost"):
            store.count("kept")
        own_server.start()
        assert store.count("kept") == 2
        [hit] = store.search("kept", np.array([0, 1, 0, 0]), 1, consistency="Strong")
        assert hit.chunk_id == "b"
        assert store.alias_target("live") == "kept"
        assert store.info("kept").properties.items() >= PROPERTIES.items()
