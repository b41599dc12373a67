"""Which changes of a source are allowed, and what is wrong with one."""

import pytest

from rag_assets.core.errors import ConfigurationError, MoveRefusedError
from rag_assets.core.sources.records import SourceRecords, SourceState
from rag_assets.core.sources.spec import SourceSpec

SPEC, ELSEWHERE = SourceSpec(url="s3://b/hr"), SourceSpec(url="s3://other/hr")
NONE = SourceRecords({})
ADDED = NONE.add("hr", SPEC)


def test_a_source_is_added_paused_resumed_and_removed() -> None:
    states = [
        records.state("hr")
        for records in (
            NONE,
            ADDED,
            ADDED.pause("hr"),
            ADDED.pause("hr").resume("hr"),
            ADDED.remove("hr"),
            ADDED.remove("hr").without("hr"),
        )
    ]

    assert states == [
        SourceState.NOT_ADDED,
        SourceState.ACTIVE,
        SourceState.PAUSED,
        SourceState.ACTIVE,
        SourceState.REMOVING,
        SourceState.NOT_ADDED,
    ]


def test_every_step_may_be_repeated() -> None:
    removing = ADDED.remove("hr")

    assert ADDED.add("hr", SPEC) == ADDED
    assert ADDED.pause("hr").add("hr", SPEC).state("hr") is SourceState.PAUSED
    assert removing.remove("hr") == removing
    assert ADDED.without("hr") == ADDED


def test_a_step_that_makes_no_sense_is_refused_with_one_that_does() -> None:
    with pytest.raises(ConfigurationError, match="no source 'hr' in the sources file"):
        NONE.add("hr", None)
    for step in (NONE.pause, NONE.resume, NONE.remove):
        with pytest.raises(MoveRefusedError, match="rag-assets sources add hr"):
            step("hr")
    for step in (ADDED.remove("hr").pause, ADDED.remove("hr").resume):
        with pytest.raises(MoveRefusedError, match="is being removed"):
            step("hr")
    with pytest.raises(MoveRefusedError, match="is being removed"):
        ADDED.remove("hr").add("hr", SPEC)


def test_a_source_that_moved_or_is_not_declared_has_a_problem_that_says_what_to_do() -> None:
    assert ADDED.problem("hr", SPEC) == ""
    assert "restore" not in ADDED.problem("hr", ELSEWHERE)
    assert "under another name" in ADDED.problem("hr", ELSEWHERE)
    assert "rag-assets sources remove hr" in ADDED.problem("hr", None)
    assert ADDED.remove("hr").problem("hr", None) == ""
    with pytest.raises(MoveRefusedError, match="s3://b/hr"):
        ADDED.add("hr", ELSEWHERE)
