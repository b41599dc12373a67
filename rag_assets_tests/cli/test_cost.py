"""`rag-assets cost`: any case, with one's own prices."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rag_assets.cli.main import main


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAG_ASSETS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def told(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(main, ["cost", "--json", *arguments])
    assert result.exit_code == 0, result.output
    message: dict[str, Any] = json.loads(result.stdout)
    return message


def test_the_reference_case_is_shown_with_units_policies_sensitivity_and_break_even() -> None:
    result = CliRunner().invoke(main, ["cost", "--reference"])

    assert result.exit_code == 0, result.output
    assert "streaming costs 29.12 times as much" in result.output
    assert "always stays costs less than stream runs with 13 to 1,000,000" in " ".join(
        result.output.split()
    )
    for message in ("Policies", "Freshness", "Sensitivity", "Break-even", "$/hour", "tokens/s"):
        assert message in result.output


def test_without_a_standing_run_stream_runs_are_paid() -> None:
    policies = told("--reference", "--stream-run", "false")["policies"]

    assert round(policies["hybrid"]["indexing"], 2) == 19.65
    assert policies["hybrid"]["money"]["stream run"] == 0


def test_an_instance_without_runs_has_only_its_settings_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RAG_ASSETS_SHARDS", "32")
    monkeypatch.setenv("RAG_ASSETS_STREAM_RUN", "false")
    monkeypatch.setenv("RAG_ASSETS_STREAM_IDLE_SECONDS", "0")

    inputs = told()["inputs"]

    assert inputs["shards"] == {"value": 32, "unit": "shards", "from": "set"}
    assert inputs["stream_run"] == {"value": 0, "unit": "", "from": "set"}
    assert inputs["stream_idle_seconds"] == {"value": 0, "unit": "s", "from": "set"}
    assert inputs["stream_tokens_s"]["from"] == "assumed"


def test_ones_own_prices_come_from_a_file_and_options_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prices.yaml"
    path.write_text("gpu_hour: 2.5\ncpu_hour: 0.2\n")
    reference = told("--reference")

    by_option = told("--reference", "--assumptions", str(path), "--cpu-hour", "0.3")
    monkeypatch.setenv("RAG_ASSETS_COST_ASSUMPTIONS", str(path))
    by_setting = told("--reference")

    prices = {name: by_option["inputs"][name]["value"] for name in ("gpu_hour", "cpu_hour")}
    assert prices == {"gpu_hour": 2.5, "cpu_hour": 0.3}
    assert by_option["inputs"]["gpu_hour"]["from"] == "given"
    before, after = (
        message["policies"]["batch"]["money"]["GPU"] for message in (reference, by_setting)
    )
    assert after == pytest.approx(before * 2.5 / 0.8)


@pytest.mark.parametrize(
    ("text", "message"),
    [("gpu_year: 1", "no input gpu_year"), ("- 1", "mapping"), ("a: [", "not valid YAML")],
)
def test_a_wrong_file_is_refused_with_a_message(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)

    result = CliRunner().invoke(main, ["cost", "--reference", "--assumptions", str(path)])

    assert result.exit_code == 1
    assert message in result.output
