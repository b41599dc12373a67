"""Run hooks: tags a failed run with its error and whether a retry can help."""

import dagster as dg

from rag_assets.core.errors import ConfigurationError, UnavailableError
from rag_assets.core.names import Tag
from rag_assets.core.scheduling.retries import Ending


@dg.failure_hook(name="note_why_a_run_failed")
def note_failure(context: dg.HookContext) -> None:
    """Tag a failed run with its error and whether a retry can help."""
    error = context.op_exception
    if error is None:
        return
    ending = Ending.FAILED
    if isinstance(error, ConfigurationError):
        ending = Ending.PERMANENT
    elif isinstance(error, UnavailableError):
        ending = Ending.UNAVAILABLE
    tags = {Tag.ENDING: str(ending), Tag.ERROR: type(error).__name__}
    context.instance.add_run_tags(context.run_id, tags)
