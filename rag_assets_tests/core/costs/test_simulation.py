"""The stored numbers against the simulation, of which a short one shows whether it has changed."""

import pytest

from rag_assets.core.costs.model import Policy
from rag_assets_tests.core.costs.simulated import COMMAND, SHORTER, SIMULATED, simulate, stored


@pytest.mark.parametrize(("name", "policy"), SIMULATED)
def test_the_simulation_still_gives_the_stored_numbers(name: str, policy: Policy) -> None:
    found = simulate(name, policy, SHORTER)

    before = stored(name)["short"][policy]
    assert found.keys() == before.keys()
    for part, numbers in found.items():
        assert numbers == pytest.approx(before[part], rel=1e-6), f"{part}: if intended, {COMMAND}"
