"""Inputs of the cost model: what is refused."""

import pytest

from rag_assets.core.costs.inputs import Case
from rag_assets.core.errors import ConfigurationError


def test_an_unknown_input_and_a_value_out_of_bounds_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"no input gpu_year; it has documents_a_day"):
        Case().having({"gpu_year": 1})
    with pytest.raises(ConfigurationError, match=r"bulk_share: .*less than or equal to 1"):
        Case().having({"bulk_share": 2})
    with pytest.raises(ConfigurationError, match=r"stream_change_seconds: .*greater than 0"):
        Case().having({"stream_change_seconds": 0})
