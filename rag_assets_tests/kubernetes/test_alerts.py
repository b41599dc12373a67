"""The alert rules: they fire when they should, and not otherwise, by promtool's own evaluation.

Time is simulated, in minutes. A series `a+bxn` has n + 1 values, begins with a and grows by b.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rag_assets_tests.kubernetes.helm import CHART
from rag_assets_tests.support.promtool import promtool

RULES = CHART / "files" / "alerts.yaml"
TARGET = {"job": "p", "instance": "a"}
LIVE = {
    "up": "1x200",
    'model_role{model="new",role="live"}': "1x200",
    "lag_target_seconds": "120x200",
}


def lags(source: str, in_time: str, all_of_them: str, model: str = "new") -> dict[str, str]:
    """Return the series of lags, of which those in time take at most the target of 120 s."""
    name = f'lag_seconds_bucket{{model="{model}",source="{source}",le="%s"}}'
    late = {name % bound: all_of_them for bound in ("300.0", "+Inf")}
    return {name % "120.0": in_time, **late}


def searches(stage: str, fast: str, all_of_them: str) -> dict[str, str]:
    """Return the series of latencies of searches, of which the fast ones take at most 1 s."""
    name = f'search_seconds_bucket{{stage="{stage}",le="%s"}}'
    return {name % "1.0": fast, name % "5.0": all_of_them, name % "+Inf": all_of_them}


@dataclass(frozen=True)
class Case:
    """Series by name, without `rag_assets_`, and what fires at some minutes, and nothing else."""

    series: Mapping[str, str]
    fires: Mapping[int, tuple[str, ...]]


QUIET = Case(
    {
        **LIVE,
        "live_alias": "1x200",
        'model_role{model="new",role="previous"}': "0x200",
        'model_role{model="old",role="live"}': "0x200",
        'model_role{model="old",role="previous"}': "1x200",
        'check_passed{asset="live_alias",check="live"}': "1x200",
        **lags("hr", "0+96x200", "0+100x200"),  # one in twenty-five is late,
        **lags("hr", "0x200", "0+100x200", model="old"),  # and all of the previous model are
        'backlog_documents{source="hr",lane="bulk"}': "90000-400x200",  # a load that goes on
        'backlog_documents{source="crm",lane="stream"}': "3 9 0 5 8x20 0x9 9x40 0 30x40 0 70x90",
        'backlog_chunks{model="new",lane="bulk"}': "500x200",
        'documents_quarantined{source="hr"}': "5x200",
        'documents{source="hr",outcome="parsed"}': "95x200",
        'documents{source="hr",outcome="crashed"}': "5x200",
        'out_of_sync_seconds{stage="rows",model="new",state="to_be_built"}': "0+60x200",
        'out_of_sync_seconds{stage="rows",model="new",state="stale"}': "0+60x55 0+60x55 0x90",
        'shards{stage="rows",model="new",state="blocked"}': "0x200",
        'shards{stage="rows",model="new",state="waiting"}': "3x200",
        'doubted_removals{source="hr"}': "0x200",
        'source_failing{source="hr"}': "0x60 1x10 0x150",
        'audit_repaired_shards_total{model="new"}': "4x200",
        'sensor_tick_timestamp_seconds{sensor="source_sensor"}': "0+60x200",
        'sensor_tick_timestamp_seconds{sensor="alert_failed_runs"}': "0x200",  # switched off
        'http_requests_total{route="/v1/search",method="POST",status="200"}': "0+960x200",
        'http_requests_total{route="/v1/search",method="POST",status="404"}': "0+500x200",
        'http_requests_total{route="/v1/search",method="POST",status="503"}': "0+40x200",
        'requests_rejected_total{reason="too_many_requests"}': "0+5x200",
        'requests_rejected_total{reason="not_authenticated"}': "0+500x200",
        **searches("total", "0+995x200", "0+1000x200"),
        **searches("rerank", "0x200", "0+1000x200"),
        'rerank_fallbacks_total{reason="timeout"}': "3x200",
        'ready{pod="1"}': "1x200",
        'ready{pod="2"}': "0x5 1x200",  # a replica that starts
    },
    dict.fromkeys(range(1, 190, 3), ()),
)
CASES = {
    "nothing is wrong": QUIET,
    "the exporter cannot collect": Case(
        {"up": "1x10 0x20"}, {10: (), 14: (), 20: ("ExporterDown{}",)}
    ),
    "one of two exporters is gone": Case(
        {"up": "1x10 stale", 'up{job="other"}': "1x60"},
        {10: (), 14: (), 20: ("ExporterDown{}",), 60: ("ExporterDown{}",)},
    ),
    "there never was an exporter": Case({"ready": "1x20"}, {4: (), 6: ("ExporterDown{!job}",)}),
    "one change in ten of a source is late": Case(
        {**LIVE, **lags("hr", "0+90x60", "0+100x60"), **lags("crm", "0+100x60", "0+100x60")},
        {10: (), 30: ('LagAboveTarget{source="hr"}',)},
    ),
    "changes were late, and then there are none": Case(
        {**LIVE, **lags("hr", "0x90", "0+100x30 3000x60")},
        {30: ('LagAboveTarget{source="hr"}',), 60: ()},
    ),
    "a backlog grows for more than an hour": Case(
        {
            "up": "1x200",
            'backlog_documents{source="hr",lane="bulk"}': "100+10x200",
            'backlog_documents{source="hr",lane="stream"}': "1x200",
            'backlog_chunks{model="new",lane="stream"}': "100+10x200",
        },
        {50: (), 100: ('DocumentsPilingUp{source="hr"}', 'ChunksPilingUp{model="new"}')},
    ),
    "documents cannot be parsed": Case(
        {
            "up": "1x60",
            'documents_quarantined{source="hr"}': "8x60",
            'documents{source="hr",outcome="parsed"}': "92x60",
            'documents{source="hr",outcome="crashed"}': "8x60",
        },
        {14: (), 15: ('DocumentsFailing{source="hr"}',)},
    ),
    "runs of a shard fail, also while another attempt runs": Case(
        {
            "up": "1x90",
            'out_of_sync_seconds{stage="rows",model="new",state="waiting"}': "0+60x63 0 3900+60x20",
            'out_of_sync_seconds{stage="rows",model="new",state="running"}': "0x63 3840 0x20",
        },
        {
            60: (),
            62: ('ShardsOutOfSync{stage="rows",model="new"}',),
            64: ('ShardsOutOfSync{stage="rows",model="new"}',),
        },
    ),
    "edits of a shard are not processed": Case(
        {"up": "1x90", 'out_of_sync_seconds{stage="documents",state="stale"}': "0+60x90"},
        {60: (), 62: ('ShardsOutOfSync{stage="documents"}',)},
    ),
    "runs cannot succeed as configured": Case(
        {"up": "1x30", 'shards{stage="documents",state="blocked"}': "0x5 2x30"},
        {10: (), 11: ('ShardsBlocked{stage="documents"}',)},
    ),
    "a removal is doubted": Case(
        {"up": "1x30", 'doubted_removals{source="hr"}': "0x5 40x30"},
        {6: (), 7: ('RemovalsDoubted{source="hr"}',)},
    ),
    "a source cannot be listed": Case(
        {"up": "1x30", 'source_failing{source="hr"}': "1x30"},
        {14: (), 15: ('SourceFailing{source="hr"}',)},
    ),
    "the alias is gone": Case(
        {
            "up": "1x30",
            "live_alias": "1x5 0x20",
            'model_role{model="new",role="previous"}': "0x5 1x20",
            'model_role{model="old",role="registered"}': "1x30",
        },
        {10: (), 11: ("NoLiveAlias{}",)},
    ),
    "the first load is not done": Case(
        {
            "up": "1x30",
            "live_alias": "0x30",
            'model_role{model="new",role="previous"}': "0x30",
            'model_role{model="new",role="candidate"}': "1x30",
        },
        {30: ()},
    ),
    "the alias points elsewhere": Case(
        {
            "up": "1x30",
            "live_alias": "1x30",
            'check_passed{asset="live_alias",check="live"}': "0x30",
            'check_passed{asset="live_alias",check="retrieval"}': "1x30",
        },
        {4: (), 5: ("NoLiveAlias{}",)},
    ),
    "another client has changed rows": Case(
        {"up": "1x90", 'audit_repaired_shards_total{model="new"}': "4x5 6x90"},
        {4: (), 8: ('AuditRepairs{model="new"}',), 75: ()},
    ),
    "the daemon is down": Case(
        {"up": "1x60", 'sensor_tick_timestamp_seconds{sensor="index_sensor"}': "0+60x10 600x60"},
        {24: (), 26: ('SensorSilent{sensor="index_sensor"}',)},
    ),
    "searches fail": Case(
        {
            "up": "1x60",
            'http_requests_total{route="/v1/search",method="POST",status="200"}': "0+900x60",
            'http_requests_total{route="/v1/search",method="POST",status="500"}': "0x10 0+100x50",
        },
        {10: (), 30: ("SearchErrors{}",)},
    ),
    "searches are refused": Case(
        {
            "up": "1x60",
            'http_requests_total{route="/v1/search",method="POST",status="200"}': "0+900x60",
            'http_requests_total{route="/v1/search",method="POST",status="429"}': "0x10 0+100x50",
            'requests_rejected_total{reason="too_many_requests"}': "0x10 0+100x50",
        },
        {10: (), 30: ("SearchOverloaded{}",)},
    ),
    "searches are slow": Case(
        {"up": "1x60", **searches("total", "0+980x60", "0+1000x60")},
        {9: (), 12: ("SearchSlow{}",)},
    ),
    "hits are not reranked": Case(
        {"up": "1x60", 'rerank_fallbacks_total{reason="timeout"}': "0x5 0+10x50"},
        {12: (), 20: ('RerankFallbacks{reason="timeout"}',)},
    ),
    "a replica does not get ready": Case(
        {"up": "1x60", 'ready{pod="1"}': "1x60", 'ready{pod="2"}': "0x60"},
        {9: (), 10: ('SearchNotReady{pod="2",instance="a"}',)},
    ),
    "no replica is ready": Case(
        {"up": "1x60", 'ready{pod="1"}': "1x5 0x50"}, {7: (), 9: ("SearchDown{}",)}
    ),
}


def rules() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def labelled(name: str, labels: Mapping[str, str]) -> str:
    """Return a series with its own labels, and these unless they are named after a `!`."""
    own = dict(re.findall(r'(\w+)="([^"]*)"', name))
    others = {key: value for key, value in labels.items() if f"!{key}" not in name}
    pairs = ",".join(f'{key}="{value}"' for key, value in {**others, **own}.items())
    return f"{name.partition('{')[0]}{{{pairs}}}"


def firing(alert: str) -> dict[str, Any]:
    """Return the sample of an alert that fires, as promtool expects it."""
    name = "RagAssets" + alert.partition("{")[0]
    state = {"alertname": name, "alertstate": "firing", **rules()[name]["labels"], "job": "p"}
    return {"labels": labelled("ALERTS" + alert[alert.index("{") :], state), "value": 1}


def as_test(name: str, case: Case) -> dict[str, Any]:
    """Return a case in promtool's format."""
    series = [
        {"series": labelled(f"rag_assets_{key}", TARGET), "values": values}
        for key, values in case.series.items()
    ]
    expected = [
        {
            "expr": 'ALERTS{alertstate="firing"}',
            "eval_time": f"{minute}m",
            "exp_samples": [firing(alert) for alert in alerts],
        }
        for minute, alerts in case.fires.items()
    ]
    return {"name": name, "interval": "1m", "input_series": series, "promql_expr_test": expected}


def test_the_rules_are_rules_of_prometheus() -> None:
    result = promtool("check", "rules", "--lint-fatal", str(RULES))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", CASES)
def test_what_fires(name: str, tmp_path: Path) -> None:
    test = {"rule_files": [str(RULES)], "tests": [as_test(name, CASES[name])]}
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test))

    result = promtool("test", "rules", "test.yaml", folder=tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_rule_is_seen_to_fire_and_has_its_inputs_in_the_quiet_case() -> None:
    fired = {
        "RagAssets" + alert.partition("{")[0]
        for case in CASES.values()
        for alerts in case.fires.values()
        for alert in alerts
    }
    quiet = {f"rag_assets_{name.partition('{')[0]}" for name in QUIET.series}
    read = {
        name for rule in rules().values() for name in re.findall(r"\brag_assets_\w+", rule["expr"])
    }
    assert fired == rules().keys()
    assert read == quiet


@pytest.mark.parametrize("name", rules())
def test_every_alert_says_what_is_wrong_and_how_urgent_it_is(name: str) -> None:
    rule = rules()[name]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"].keys() == {"summary", "description"}
    assert all(text.endswith(".") for text in rule["annotations"].values())


def test_a_text_has_the_numbers_in_it(tmp_path: Path) -> None:
    test = as_test("late", CASES["one change in ten of a source is late"])
    del test["promql_expr_test"]
    late = "For 15 minutes, more than 5% of its changes have taken longer than"
    texts = {
        "summary": "Changes of source hr take too long to be found.",
        "description": f"{late} RAG_ASSETS_MAX_LAG_SECONDS; the 95th percentile is about 3m 29s.",
    }
    labels = {"severity": "warning", "job": "p", "source": "hr"}
    expected = [{"exp_labels": labels, "exp_annotations": texts}]
    name = "RagAssetsLagAboveTarget"
    test["alert_rule_test"] = [{"eval_time": "30m", "alertname": name, "exp_alerts": expected}]
    (tmp_path / "test.yaml").write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "tests": [test]})
    )

    result = promtool("test", "rules", "test.yaml", folder=tmp_path)

    assert result.returncode == 0, result.stdout + result.stderr
