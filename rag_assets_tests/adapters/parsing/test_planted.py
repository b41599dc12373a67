"""Generated documents: every planted sentence is found, or what lacks it says so."""

from collections import Counter
from unicodedata import normalize

import pytest

from rag_assets.adapters.parsing.worker import ParserPool
from rag_assets.core.documents.document import ParsedDocument
from rag_assets_tests.support.planted import Planted, planted_documents

COUNT, BATCH = 2000, 20
SEED = 14


@pytest.mark.slow
def test_of_2000_generated_documents_no_sentence_is_lost_in_silence() -> None:
    lost: Counter[tuple[str, str]] = Counter()
    outcomes: Counter[str] = Counter()
    documents = list(planted_documents(SEED, COUNT))
    with ParserPool(2, timeout_seconds=60, memory_bytes=1 << 30) as pool:
        for start in range(0, COUNT, BATCH):
            batch = documents[start : start + BATCH]
            parsed = pool.parse_all([(planted.name, planted.content) for planted in batch])
            for planted, document in zip(batch, parsed, strict=True):
                outcomes[document.outcome] += 1
                lost.update((planted.name[4:], place) for place in lost_places(planted, document))

    assert lost == {}
    assert outcomes["parsed"] + outcomes["incomplete"] == COUNT, outcomes


def lost_places(planted: Planted, document: ParsedDocument) -> list[str]:
    """Return where sentences stood that are neither in the text nor accounted for."""
    if not document.outcome.has_text or document.omissions:
        return []
    text = " ".join(f"{document.title} {document.markdown}".replace("\\", "").split())
    return [
        place
        for sentence, place in planted.places.items()
        if " ".join(normalize("NFC", sentence).split()) not in text
    ]
