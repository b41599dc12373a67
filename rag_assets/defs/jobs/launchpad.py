"""What the launchpads of jobs open with: the fields to fill in, and nothing else."""

from typing import Any


def launchpad(op: str = "", **fields: Any) -> dict[str, Any]:
    """Return the configuration of a job whose op, or asset, has these fields to fill in.

    Others keep their defaults, and so do the resources, which the UI would list one by one. Not for
    a job of several assets or checks: Dagster keeps the configuration of all of them in a run of
    some, and refuses it.
    """
    ops = {"ops": {op: {"config": fields}}} if op else {}
    return {**ops, "resources": {}}
