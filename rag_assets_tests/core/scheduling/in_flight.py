"""Any runs in flight, for property tests of what is requested beside them."""

from hypothesis import strategies as st

from rag_assets.core.scheduling.lanes import InFlight, Lane

RUNS = st.lists(
    st.builds(
        lambda lane, first, length: InFlight(lane, range(first, first + length)),
        st.sampled_from(Lane),
        st.integers(0, 40),
        st.integers(1, 8),
    ),
    max_size=3,
)
