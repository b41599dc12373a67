"""The cursor of the source sensor, and when a source is listed next."""

from rag_assets.core.sources.removals import Progress
from rag_assets.core.sources.survey import Survey
from rag_assets.core.sources.turns import ListingState, problems_of, read_cursor, write_cursor

NOW = 1_800_000_000.0


def test_a_cursor_is_read_as_it_was_written_also_after_the_message_of_the_tick() -> None:
    states = {"hr": ListingState("a", 2.0, progress=Progress(5, 1)), "wiki": ListingState()}

    assert read_cursor(write_cursor(states)) == states
    assert read_cursor(f"2 documents listed in 0.1 s. {write_cursor(states)}") == states


def test_the_cursor_of_one_source_is_understood_and_an_invalid_one_starts_anew() -> None:
    earlier = '{"after": "b.md", "spent": 1.5, "due": 7, "progress": {"listed": 3, "removed": 1}}'

    [(name, state)] = read_cursor(earlier).items()

    assert (name, state.after, state.progress) == ("default", "b.md", Progress(3, 1))
    assert read_cursor("what is this?") == {}
    assert "hr" not in read_cursor('{"sources": {"hr": {"after": []}}}')


def test_a_long_listing_is_repeated_less_often_and_the_interval_counts_from_its_start() -> None:
    quick = ListingState().ended(1.0, 0.0, NOW, ordered=True)
    long = ListingState().ended(10.0, 0.0, NOW, ordered=True)
    rare = ListingState().ended(10.0, 3600.0, NOW, ordered=False)

    assert [one.wait(NOW) for one in (quick, long, rare)] == [0.0, 90.0, 3590.0]
    assert (rare.ordered, rare.listed_at) == (False, NOW)


def test_a_source_that_fails_waits_longer_each_time_and_goes_on_where_it_was() -> None:
    state, waits = ListingState(after="m.md", listed_at=5.0), []
    for _ in range(7):
        state = state.failed("it is down", NOW)
        waits.append(state.wait(NOW))

    assert waits == [3, 6, 12, 24, 48, 60, 60]
    assert (state.after, state.listed_at) == ("m.md", 5.0)
    assert problems_of({"hr": state, "wiki": ListingState()}) == {"hr": "it is down"}
    assert state.continued("n.md", 1.0, Progress()).wait(NOW) == 0.0


def test_a_survey_counts_documents_by_extension() -> None:
    found = Survey.of([("a/b.PDF", 5), ("c.pdf", 2), ("x.y/.hidden", 1), ("README", 3)])

    assert found.documents == {".pdf": 2, "no extension": 2}
    assert found.bytes == {".pdf": 7, "no extension": 4}
