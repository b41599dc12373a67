"""Metrics in a footer describe the quarantine as the table would."""

from datetime import UTC, datetime, timedelta

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from rag_assets.core.documents.document import Outcome
from rag_assets.core.documents.quarantine import Quarantine
from rag_assets.core.tables import PARSED_DOCUMENTS

START = datetime(2026, 1, 1, tzinfo=UTC)
BAD = [outcome for outcome in Outcome if outcome.quarantined]

documents = st.lists(st.tuples(st.sampled_from(BAD), st.integers(0, 10**9)), max_size=12)


def rows(found: list[tuple[Outcome, int]]) -> pl.DataFrame:
    times = [START + timedelta(microseconds=after) for _, after in found]
    schema = {name: PARSED_DOCUMENTS[name] for name in ("outcome", "judged_at")}
    return pl.DataFrame({"outcome": [o.value for o, _ in found], "judged_at": times}, schema)


@given(documents)
def test_metrics_hold_all_that_the_table_does(found: list[tuple[Outcome, int]]) -> None:
    counted = Quarantine.of(rows(found))

    assert Quarantine.of_metrics({**counted.as_metrics(), "rows": 17.0}) == counted
    assert counted.documents == len(found)


@given(st.lists(documents, max_size=4))
def test_shards_taken_together_are_one_table(parts: list[list[tuple[Outcome, int]]]) -> None:
    together = Quarantine.together(Quarantine.of(rows(part)) for part in parts)

    assert together == Quarantine.of(rows([row for part in parts for row in part]))


def test_the_oldest_is_the_longest_known() -> None:
    found = Quarantine.of(rows([(Outcome.EMPTY, 5_000_000), (Outcome.ENCRYPTED, 2_000_000)]))

    assert found.since == START.timestamp() + 2
    assert dict(found.outcomes) == {"empty": 1, "encrypted": 1}
