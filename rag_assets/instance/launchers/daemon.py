"""Dagster's daemon on Kubernetes, with the reaper as one of its threads.

The chart runs `python -m rag_assets.instance.launchers.daemon run …`, with the arguments of
`dagster-daemon`. The daemon launches the runs, has an account that may see their pods, and is
always there; a process of its own would have to import Dagster for each look.
"""

import logging
import threading

from dagster._daemon.cli import main as run_daemon

from rag_assets.instance.launchers.reaper import reap_forever


def main() -> None:
    """Start the reaper, then become Dagster's daemon."""
    handler = logging.StreamHandler()  # not of the root: Dagster's own lines would be there twice
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    ours = logging.getLogger("rag_assets")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    threading.Thread(target=reap_forever, name="reaper", daemon=True).start()
    run_daemon()


if __name__ == "__main__":
    main()
