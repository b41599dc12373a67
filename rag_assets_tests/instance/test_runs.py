"""The tags of runs: what the UI shows of them, and what earlier runs were recorded with."""

from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.storage.tags import TagType, get_tag_type
from dagster._core.test_utils import create_run_for_test

from rag_assets.core.names import FORMER_TAGS, Job, Tag
from rag_assets.core.scheduling.retries import Ending
from rag_assets.instance.runs import over, read_runs

ROOT = Path(__file__).parents[2]


def test_the_ui_shows_the_tags_that_people_need_and_none_of_the_bookkeeping() -> None:
    kinds = {tag: get_tag_type(tag) for name, tag in vars(Tag).items() if name.isupper()}

    hidden = {tag for tag, kind in kinds.items() if kind is TagType.HIDDEN}
    assert hidden == {Tag.WRITES, Tag.DESIRED, Tag.CONFIGURED}
    assert kinds[Tag.LANE] is kinds[Tag.MODEL] is kinds[Tag.REASON] is TagType.USER_PROVIDED


def test_the_queue_limits_runs_by_tags_that_they_have() -> None:
    coordinator = yaml.safe_load((ROOT / "dagster.yaml").read_text())["run_coordinator"]

    limits = {limit["key"] for limit in coordinator["config"]["tag_concurrency_limits"]}
    assert limits == {Tag.LANE, Tag.WRITES}


@pytest.mark.parametrize("desired", [Tag.DESIRED, *FORMER_TAGS[Tag.DESIRED]])
@pytest.mark.parametrize("configured", [Tag.CONFIGURED, *FORMER_TAGS[Tag.CONFIGURED]])
def test_a_failure_that_was_recorded_under_other_names_of_tags_still_counts(
    desired: str, configured: str
) -> None:
    shards = ["s000", "s001", "s002"]
    tags = {**over(shards[1:]), desired: "1:abc 2:def", configured: "now"}
    with dg.DagsterInstance.ephemeral() as instance:
        create_run_for_test(
            instance,
            job_name=Job.INGEST_DOCUMENTS,
            tags={**tags, Tag.ENDING: str(Ending.PERMANENT)},
            status=dg.DagsterRunStatus.FAILURE,
        )

        [ended] = read_runs(instance, Job.INGEST_DOCUMENTS, (), shards).ended

    assert (ended.shards, ended.ending) == (range(1, 3), Ending.PERMANENT)
    assert (ended.desired, ended.configured) == ({1: "abc", 2: "def"}, "now")
