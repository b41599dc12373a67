"""Jobs of a model's life: register, preview, build, cancel, judge, promote, roll back, retire.

Each is a step of `core/model_life.py` and can be run again; docs/upgrade.md goes through them.
"""

from dataclasses import asdict
from typing import Any

import dagster as dg
from pydantic import Field

from rag_assets.assets import live_alias
from rag_assets.checks import CANDIDATE_CHECKS
from rag_assets.core.model_life import Registry
from rag_assets.lifecycle import Lifecycle
from rag_assets.runs import MODEL, WRITES, note_failure
from rag_assets.settings import load_settings

ONE_AT_A_TIME = {WRITES: "models"}
RESOURCES = {"lake", "models", "milvus"}


class ModelConfig(dg.Config):
    """Which model."""

    model: str = Field(description="The model's key in the models file.")


class BuildConfig(ModelConfig):
    """Which model to build."""

    beside: bool = Field(
        default=False, description="Build it although another candidate is there already."
    )


class PreviewConfig(ModelConfig):
    """Whose build to estimate."""

    tokens_per_second: float = Field(
        default=0.0,
        description="The rate of one GPU. 0: as the model's last runs measured it, or as this"
        " machine does on a sample.",
    )


@dg.op(required_resource_keys=RESOURCES, description="Put a model on record.")
def register(context: dg.OpExecutionContext, config: ModelConfig) -> None:
    """Register a model."""
    _say(context, config.model, _life(context, config.model).register(config.model))


@dg.op(required_resource_keys=RESOURCES, description="Estimate a build.")
def preview(context: dg.OpExecutionContext, config: PreviewConfig) -> None:
    """Estimate what building a model takes."""
    estimate = _life(context, config.model).preview(config.model, config.tokens_per_second)
    context.add_output_metadata(asdict(estimate))


@dg.op(required_resource_keys=RESOURCES, description="Make a model a candidate.")
def build(context: dg.OpExecutionContext, config: BuildConfig) -> None:
    """Have a model built."""
    _say(
        context,
        config.model,
        _life(context, config.model).build(config.model, beside=config.beside),
    )


@dg.op(required_resource_keys=RESOURCES, description="Stop building a candidate.")
def cancel(context: dg.OpExecutionContext, config: ModelConfig) -> None:
    """Stop a build."""
    _say(context, config.model, _life(context, config.model).cancel(config.model))


@dg.op(required_resource_keys=RESOURCES, description="Remove a model.")
def retire(context: dg.OpExecutionContext, config: ModelConfig) -> None:
    """Retire a model, after the grace that running queries have."""
    grace = load_settings().grace_seconds
    _say(context, config.model, _life(context, config.model).retire(config.model, grace))


@dg.job(
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    description="Put a model of the models file on record and make its key a partition.",
)
def register_model() -> None:
    """Register a model."""
    register()


@dg.job(
    hooks={note_failure},
    description="Estimate what building a model takes: GPU hours and storage. Builds nothing.",
)
def preview_build() -> None:
    """Estimate a build."""
    preview()


@dg.job(
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    description="Make a registered model a candidate: the index sensor asks for bulk runs until its"
    " collection is filled, indexed, loaded and read back, and feeds it every change.",
)
def build_model() -> None:
    """Have a model built."""
    build()


@dg.job(
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    description="Stop building a candidate. What was built stays for the next build.",
)
def cancel_build() -> None:
    """Stop a build."""
    cancel()


@dg.job(
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    description="Remove a model that is not live: its collection, vectors and partition.",
)
def retire_model() -> None:
    """Retire a model."""
    retire()


_promotion = dg.AssetSelection.assets(live_alias.NAME).without_checks() | dg.AssetSelection.checks(
    live_alias.GATE
)

judge_candidates = dg.define_asset_job(
    "judge_candidates",
    selection=CANDIDATE_CHECKS,
    hooks={note_failure},
    description="Judge every candidate by the rules that a promotion demands. Changes nothing.",
)

promote = dg.define_asset_job(
    "promote",
    selection=_promotion,
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    description="Judge the model that `live_alias` is configured with, and point the live alias at"
    " its collection.",
)

rollback = dg.define_asset_job(
    "rollback",
    selection=_promotion,
    hooks={note_failure},
    tags=ONE_AT_A_TIME,
    config={"ops": {live_alias.NAME: {"config": {"rollback": True}}}},
    description="Point the live alias back at the model that was live before, after a look at its"
    " data. It has received every change since.",
)

ALL: list[Any] = [
    register_model,
    preview_build,
    build_model,
    cancel_build,
    judge_candidates,
    promote,
    rollback,
    retire_model,
]
"""In the order of a model's life."""


def _life(context: dg.OpExecutionContext, model: str) -> Lifecycle:
    """Open the models' life; the run is found by its model in the UI from here on."""
    context.instance.add_run_tags(context.run_id, {MODEL: model})
    resources = context.resources
    return Lifecycle(context.instance, resources.lake, resources.models, resources.milvus)


def _say(context: dg.OpExecutionContext, model: str, registry: Registry) -> None:
    context.log.info("%s is %s.", model, registry.role(model))
    context.add_output_metadata({key: str(registry.role(key)) for key in registry.records})
