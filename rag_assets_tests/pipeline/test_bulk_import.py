"""A new model's collection is filled by Milvus's bulk import, or as ever where that fails."""

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from rag_assets.adapters.milvus.import_files import ImportFiles
from rag_assets.adapters.milvus.rows import INTEGER_FIELDS, TEXT_LIMITS, import_file
from rag_assets.adapters.milvus.store import MilvusStore
from rag_assets.core.errors import ConfigurationError, VectorStoreError
from rag_assets_tests.scenarios.texts import document
from rag_assets_tests.support.pipeline import Pipeline, live_on
from rag_assets_tests.support.s3_server import Bucket
from rag_assets_tests.support.variants import variant

pytestmark = pytest.mark.slow  # needs the full engine


def unbuilt_candidate(live: Pipeline, folder: Path) -> Pipeline:
    files = ImportFiles(f"file://{folder}/imports", {})
    return replace(live.with_model(variant("rotated")), files=files)


@pytest.fixture
def candidate(tmp_path: Path, milvus_full: str) -> Iterator[Pipeline]:
    """A model that is to be built, on an engine that imports."""
    with live_on(tmp_path, milvus_full) as live:
        yield unbuilt_candidate(live, tmp_path)


@pytest.fixture
def candidate_on_lite(tmp_path: Path, milvus_lite: str) -> Iterator[Pipeline]:
    """A model that is to be built, on an engine that does not."""
    with live_on(tmp_path, milvus_lite) as live:
        yield unbuilt_candidate(live, tmp_path)


@pytest.fixture
def upserted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows of all upserts from now on."""
    rows: list[int] = []
    upsert = MilvusStore.upsert

    def noted(store: MilvusStore, name: str, batch: pl.DataFrame) -> None:
        rows.append(batch.height)
        upsert(store, name, batch)

    monkeypatch.setattr(MilvusStore, "upsert", noted)
    return rows


def test_a_new_collection_is_imported_and_follows_edits_like_any_other(
    candidate: Pipeline, upserted: list[int], tmp_path: Path
) -> None:
    candidate.build()

    assert upserted == []
    assert candidate.indexed() == candidate.expected()
    assert candidate.store.count(candidate.collection) == candidate.chunks().height
    assert list((tmp_path / "imports").iterdir()) == []

    candidate.promote()  # the gate compares every vector with the lake's
    candidate.write("0.md", document("edited"))
    candidate.remove("1.md")
    candidate.run()

    assert candidate.indexed() == candidate.expected()


def test_a_shard_that_somebody_began_to_write_is_not_imported(
    candidate: Pipeline, upserted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(MilvusStore, "bulk_import", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            candidate.build()

    candidate.build()

    heights = [candidate.target().desired_rows(shard)[0].height for shard in candidate.shards]
    assert upserted == [next(filter(None, heights))]
    assert candidate.indexed() == candidate.expected()
    assert candidate.store.count(candidate.collection) == candidate.chunks().height


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("writable", [True, False])
def test_where_there_is_no_import_or_no_file_rows_are_upserted(
    candidate_on_lite: Pipeline, tmp_path: Path, caplog: pytest.LogCaptureFixture, writable: bool
) -> None:
    if not writable:
        (tmp_path / "file").touch()
        candidate_on_lite.files = ImportFiles(f"file://{tmp_path}/file/imports", {})

    with caplog.at_level(logging.WARNING):
        candidate_on_lite.build()

    assert ("UNIMPLEMENTED" if writable else "Cannot write the bulk import file") in caplog.text
    assert candidate_on_lite.indexed() == candidate_on_lite.expected()


def test_rows_that_do_not_fit_make_no_file() -> None:
    texts = dict.fromkeys(TEXT_LIMITS, "x") | dict.fromkeys(INTEGER_FIELDS, 0)
    vector = pl.Series("vector", [[1.0, math.nan]], dtype=pl.Array(pl.Float32, 2))

    with pytest.raises(VectorStoreError, match="not finite"):
        import_file(pl.DataFrame([texts]).with_columns(vector), {})


def test_a_url_of_no_known_kind_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigurationError, match="RAG_ASSETS_MILVUS_IMPORT_URL"):
        ImportFiles("nothing://bucket/folder", {})


def test_a_file_in_a_bucket_is_named_to_milvus_by_its_key_and_removed_after(
    bucket: Bucket,
) -> None:
    files = ImportFiles(f"{bucket.url}/imports", bucket.options)

    with files.temporary_file("rows.parquet", b"rows") as path:
        assert path == "imports/rows.parquet"
        assert bucket.filesystem().cat_file(f"{bucket.name}/{path}") == b"rows"

    assert not bucket.filesystem().exists(f"{bucket.name}/imports/rows.parquet")
