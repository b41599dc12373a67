"""What the simulation gave for the cases that the cost model is held to, stored in simulated.json.

A simulation takes up to half a minute, so tests read the stored numbers. Those of a short
simulation of each case are stored too, and simulated anew by a test: they differ as soon as the
simulation does. To regenerate all: `python -m rag_assets_tests.core.costs.simulated`.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from rag_assets.core.costs.inputs import Case
from rag_assets.core.costs.model import HOUR, Kind, Policy, cost
from rag_assets_tests.core.costs.simulation import Found, Simulation

COMMAND = "python -m rag_assets_tests.core.costs.simulated"
STORED = Path(__file__).parent / "simulated.json"
SEED = 11
SHORTER = 20  # so many times, a short simulation

CASES: Mapping[str, tuple[Mapping[str, float], int]] = {
    "reference": ({}, 100),
    "stream runs": ({"stream_run": False}, 100),
    "embedding server": ({"gpu_run_start_s": 0, "stream_run": False}, 60),
    "small, sleeping often": (
        {
            **{"documents_a_day": 400, "bulk_share": 0.5, "uploads_a_day": 8, "idle_s": 120},
            **{"shards_per_run": 4, "batches_a_day": 4, "stream_run": False},
        },
        300,
    ),
    "no idling, uneven sizes": (
        {
            **{"documents_a_day": 600, "bulk_share": 0.2, "uploads_a_day": 2, "idle_s": 0},
            **{"chunk_spread": 1.4, "stream_tokens_s": 500, "stream_run": False},
        },
        300,
    ),
    "standing run, ending often": (
        {
            **{"documents_a_day": 120, "bulk_share": 0.5, "uploads_a_day": 10},
            **{"gpu_run_start_s": 60},
        },
        300,
    ),
    "standing run, often busy": (
        {
            **{"documents_a_day": 1_500, "bulk_share": 0.1, "uploads_a_day": 30},
            **{"stream_change_seconds": 40, "stream_idle_seconds": 60},
        },
        100,
    ),
    "standing run, always": (
        {
            **{"documents_a_day": 400, "bulk_share": 0.5, "uploads_a_day": 8},
            **{"stream_idle_seconds": 0},
        },
        100,
    ),
}
"""Name → what differs from the reference case, and the days to simulate."""

SIMULATED = [
    (name, policy)
    for name in CASES
    for policy in Policy
    if policy is Policy.HYBRID or not name.startswith("standing run")  # which no other policy has
]
"""Names of cases, and the policies under which they are simulated."""


def case(name: str) -> Case:
    """Return a case as the model takes it."""
    return Case().having(CASES[name][0])


def conditions(name: str) -> dict[str, Any]:
    """Return everything that a case's simulations depend on; the model gives the number of pods."""
    pods = {policy.value: cost(policy, case(name)).gpu_pods for policy in Policy}
    return {
        "days": CASES[name][1],
        "seed": SEED,
        "gpu_pods": pods,
        "inputs": case(name).model_dump(exclude={"prices"}),
    }


def simulate(name: str, policy: Policy, shorter: int = 1) -> dict[str, dict[str, float]]:
    """Simulate one case under one policy; return usage per day, and each kind's freshness."""
    of_case, days = case(name), CASES[name][1] // shorter
    pods = cost(policy, of_case).gpu_pods
    found = Simulation(policy, of_case, days, pods, SEED).run()
    return {"usage": _usage(found, days), **{kind: _freshness(found, kind) for kind in Kind}}


def stored(name: str) -> dict[str, Any]:
    """Return what is stored of a case.

    That is its `conditions`, and by policy what `simulate` returned: `policies`, and of the short
    simulation `short`.
    """
    of_case: dict[str, Any] = json.loads(STORED.read_text())["cases"][name]
    return of_case


def store() -> None:
    """Simulate the cases under their policies, and store the numbers."""
    todo = [(name, policy, shorter) for name, policy in SIMULATED for shorter in (1, SHORTER)]
    with ProcessPoolExecutor() as pool:
        found = dict(zip(todo, pool.map(simulate, *zip(*todo, strict=True)), strict=True))
    cases = {
        name: {
            "conditions": conditions(name),
            "policies": {policy: found[name, policy, 1] for policy in policies},
            "short": {policy: found[name, policy, SHORTER] for policy in policies},
        }
        for name in CASES
        for policies in [[policy for of_case, policy in SIMULATED if of_case == name]]
    }
    STORED.write_text(json.dumps({"generated_by": COMMAND, "cases": cases}, indent=2) + "\n")


def _usage(found: Found, days: int) -> dict[str, float]:
    return {
        "GPU hours": found.gpu / HOUR / days,
        "embedding hours": found.gpu_busy / HOUR / days,
        "GPU starts": found.gpu_starts / days,
        "CPU hours": found.cpu / HOUR / days,
        "standing hours": found.standing / HOUR / days,
        "standing starts": found.standing_starts / days,
        "runs": found.runs / days,
        "shards": found.shards / days,
    }


def _freshness(found: Found, kind: Kind) -> dict[str, float]:
    delays = np.array(found.delays[kind])
    p50, p95 = np.quantile(delays, [0.5, 0.95])
    return {"mean": float(delays.mean()), "p50": float(p50), "p95": float(p95)}


if __name__ == "__main__":
    store()
