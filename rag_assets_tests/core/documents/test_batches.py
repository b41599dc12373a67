"""Documents that are parsed together: small ones, and not too many."""

from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.documents.batches import BATCH_BYTES, FILE_BYTES, batches

SIZES = st.lists(st.integers(0, 3 * BATCH_BYTES) | st.integers(0, 10_000))


@given(SIZES)
def test_every_file_is_in_one_batch_and_a_batch_is_small_or_one_file(sizes: list[int]) -> None:
    found = batches({"document_id": str(n), "size": size} for n, size in enumerate(sizes))

    together = [file for batch in found for file in batch]
    assert [file["size"] for file in together] == sorted(sizes, reverse=True)
    assert {file["document_id"] for file in together} == {str(n) for n in range(len(sizes))}
    for batch in found:
        weight = sum(file["size"] + FILE_BYTES for file in batch[:-1])
        assert weight < BATCH_BYTES
        assert len(batch) == 1 or batch[0]["size"] < BATCH_BYTES
