"""Jobs of a model's lifecycle: from registering to retiring it.

Each is a repeatable step of `core/models/lifecycle.py`; docs/upgrade.md walks through them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import dagster as dg
from pydantic import Field

from rag_assets.core.models.lifecycle import Registry
from rag_assets.core.names import Asset, Job, Op, Tag
from rag_assets.defs.checks.gate import report_no_candidate
from rag_assets.defs.hooks import note_failure
from rag_assets.defs.jobs.launchpad import launchpad
from rag_assets.defs.jobs.selections import CANDIDATE_CHECKS, PROMOTION_CHECK, without_checks
from rag_assets.defs.resources import IndexResource
from rag_assets.instance.orchestrator import DagsterOrchestrator
from rag_assets.instance.runs import AT_ONCE
from rag_assets.models.lifecycle import Lifecycle

ONE_AT_A_TIME = {Tag.WRITES: "models"}


class ModelConfig(dg.Config):
    """The model."""

    model: str = Field(description="Key of the model in the models file.")


class BuildConfig(ModelConfig):
    """The model to build."""

    concurrent: bool = Field(
        default=False, description="Whether to build even if another candidate is being built."
    )


class PreviewConfig(ModelConfig):
    """The model whose build to estimate."""

    tokens_per_second: float = Field(
        default=0.0,
        description="Rate of one GPU. 0: as measured by the model's recent runs, or else on a"
        " sample on this machine.",
    )


@dg.op(name=Op.REGISTER)
def register(context: dg.OpExecutionContext, config: ModelConfig, index: IndexResource) -> None:
    """Register a model."""
    with _lifecycle(context, index, config.model) as life:
        _record(context, config.model, life.register(config.model))


@dg.op(name=Op.PREVIEW)
def preview(context: dg.OpExecutionContext, config: PreviewConfig, index: IndexResource) -> None:
    """Estimate the cost of building a model."""
    with _lifecycle(context, index, config.model) as life:
        estimate = life.preview(config.model, config.tokens_per_second)
    context.add_output_metadata(asdict(estimate))


@dg.op(name=Op.BUILD)
def build(context: dg.OpExecutionContext, config: BuildConfig, index: IndexResource) -> None:
    """Make a model a candidate."""
    with _lifecycle(context, index, config.model) as life:
        registry = life.build(config.model, concurrent=config.concurrent)
    _record(context, config.model, registry)


@dg.op(name=Op.REBUILD)
def rebuild(context: dg.OpExecutionContext, config: BuildConfig, index: IndexResource) -> None:
    """Have another collection of a model built from its vectors."""
    with _lifecycle(context, index, config.model) as life:
        key, registry = life.rebuild(config.model, concurrent=config.concurrent)
    _record(context, key, registry)


@dg.op(name=Op.CANCEL)
def cancel(context: dg.OpExecutionContext, config: ModelConfig, index: IndexResource) -> None:
    """Stop building a candidate."""
    with _lifecycle(context, index, config.model) as life:
        _record(context, config.model, life.cancel(config.model))


@dg.op(name=Op.RETIRE)
def retire(context: dg.OpExecutionContext, config: ModelConfig, index: IndexResource) -> None:
    """Remove a model."""
    with _lifecycle(context, index, config.model) as life:
        _record(context, config.model, life.retire(config.model, index.retire_grace_seconds))


@dg.job(
    name=Job.REGISTER_MODEL,
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    config=launchpad(Op.REGISTER, model=""),
    description="Model lifecycle, 1 of 7: register a model of the models file, which adds its key"
    f" to the partitions. Next: {Job.PREVIEW_BUILD} or {Job.BUILD_MODEL}.",
)
def register_model() -> None:
    """Register a model."""
    register()


@dg.job(
    name=Job.PREVIEW_BUILD,
    hooks={note_failure},
    config=launchpad(Op.PREVIEW, model=""),
    description="Model lifecycle, 2 of 7: estimate the GPU hours and storage that building it"
    f" takes. Builds nothing. Next: {Job.BUILD_MODEL}.",
)
def preview_build() -> None:
    """Estimate what building a model takes."""
    preview()


@dg.job(
    name=Job.BUILD_MODEL,
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    config=launchpad(Op.BUILD, model=""),
    description="Model lifecycle, 3 of 7: make a registered model a candidate. The index sensor"
    " then requests bulk runs until its collection is filled, indexed, loaded and read back, and"
    f" keeps it in sync afterwards. Next: {Job.EVALUATE_CANDIDATES} or {Job.PROMOTE};"
    f" {Job.CANCEL_BUILD} stops it.",
)
def build_model() -> None:
    """Have a model built."""
    build()


@dg.job(
    name=Job.REBUILD_MODEL,
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    config=launchpad(Op.REBUILD, model=""),
    description="Model lifecycle, 3 of 7 again: build another collection of a model, from the"
    " vectors that there are: with the metadata fields that are declared now, and the index of the"
    " models file. It is a candidate, named after the model with a number, until it is promoted."
    f" Embeds nothing. Next: {Job.PROMOTE}.",
)
def rebuild_model() -> None:
    """Have a model's collection built anew."""
    rebuild()


@dg.job(
    name=Job.CANCEL_BUILD,
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    config=launchpad(Op.CANCEL, model=""),
    description="Model lifecycle, back from 3 to 1: stop building a candidate. What was built is"
    " kept for the next build.",
)
def cancel_build() -> None:
    """Stop building a candidate."""
    cancel()


evaluate_candidates = dg.define_asset_job(
    Job.EVALUATE_CANDIDATES,
    selection=CANDIDATE_CHECKS,
    hooks={note_failure},
    config=launchpad(),
    description="Model lifecycle, 4 of 7: evaluate every candidate by the rules that a promotion"
    f" requires. Changes nothing. Next: {Job.PROMOTE}, which evaluates them too.",
)

_promotion = without_checks(Asset.LIVE_ALIAS) | PROMOTION_CHECK

promote = dg.define_asset_job(
    Job.PROMOTE,
    selection=_promotion,
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    config=launchpad(Asset.LIVE_ALIAS, model="", reason=""),
    description="Model lifecycle, 5 of 7: evaluate the model that `live_alias` is configured with"
    " and, if it passes, point the live alias at its collection. The model before stays in sync."
    f" Next: {Job.ROLLBACK}, if it disappoints, or {Job.RETIRE_MODEL} for the model before.",
)

rollback = dg.define_asset_job(
    Job.ROLLBACK,
    selection=_promotion,
    hooks={note_failure},
    tags=AT_ONCE,
    config=launchpad(Asset.LIVE_ALIAS, rollback=True, reason=""),
    description="Model lifecycle, 6 of 7, if need be: point the live alias back at the previously"
    " live model, at once: refused only if queries would fail. How stale it is, is part of the"
    " result; the stream runs bring the rest.",
)

restore_alias = dg.define_asset_job(
    Job.RESTORE_ALIAS,
    selection=_promotion,
    hooks={note_failure},
    tags=AT_ONCE,
    config=launchpad(Asset.LIVE_ALIAS, restore=True, reason=""),
    description="Put back a live alias that is missing, on the latest model that was live and whose"
    " collection is whole. An alias that exists is left alone.",
)


@dg.job(
    name=Job.RETIRE_MODEL,
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    config=launchpad(Op.RETIRE, model=""),
    description="Model lifecycle, 7 of 7: remove one that is not live, with its collection, vectors"
    " and partition.",
)
def retire_model() -> None:
    """Remove a model."""
    retire()


@contextmanager
def _lifecycle(
    context: dg.OpExecutionContext, index: IndexResource, model: str
) -> Iterator[Lifecycle]:
    """Open the lifecycle, and tag the run with the model so that the UI can filter by it."""
    context.instance.add_run_tags(context.run_id, {Tag.MODEL: model})
    with index.open() as opened:
        yield Lifecycle(opened, DagsterOrchestrator(context.instance))


def _record(context: dg.OpExecutionContext, model: str, registry: Registry) -> None:
    report_no_candidate(context.instance, registry)
    context.log.info("%s is %s.", model, registry.role(model))
    context.add_output_metadata({key: str(registry.role(key)) for key in registry.records})
