"""The alerts, judged by Prometheus' own promtool: on when they should be, off when they should not."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
RULES = yaml.safe_load((ROOT / "deploy/monitoring/alerts.yaml").read_text())["spec"]
POOL = 'namespace="team",pool="qwen"'
WORKER = f'{POOL},pod="qwen-0",dp_rank="0",router="r0"'
ALIVE = {'up{namespace="kvpool-system",container="operator"}': "1x400"}
DAY = "x300"
"""In steps of 5 minutes, and an hour more."""


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not on PATH; Debian's package prometheus brings it, and so does .ci/run")
    return found


def judged(promtool: str, folder: Path, *words: str, **files: object) -> None:
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(json.dumps(content))
    done = subprocess.run([promtool, *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_the_rules(promtool, tmp_path):
    judged(promtool, tmp_path, "check", "rules", "rules.yaml", rules=RULES)


CASES = {
    "KvpoolPoolNotReady": (
        "1m",
        {f'kvpool_operator_pool_condition{{{POOL},condition="Ready",status="True"}}': "1x4 0x30"},
        {"14m": False, "16m": True},
    ),
    "KvpoolNoRouterReady": (
        "1m",
        {
            f'kvpool_router_ready{{{POOL},router="r0"}}': "0x30",
            f'kvpool_router_ready{{{POOL},router="r1"}}': "1x4 0x30",
        },
        {"6m": False, "8m": True},
    ),
    "KvpoolNoRouterReady, none is scraped": (
        "1m",
        {f'kvpool_operator_pool_replicas{{{POOL},state="routable"}}': "0x4 2x30"},
        {"6m": False, "8m": True},
    ),
    "KvpoolEventsNotFlowing": (
        "1m",
        {
            f'kvpool_router_worker_events_state{{{WORKER},state="EXACT"}}': "1x4 0x40",
            f'kvpool_router_worker_events_state{{{WORKER},state="DEGRADED"}}': "0x4 1x40",
            f"kvpool_router_worker_ready{{{WORKER}}}": "1x24 0x20",
        },
        {"14m": False, "16m": True, "26m": False},
    ),
    "KvpoolHitRateCollapsed": (
        "5m",
        {
            f"kvpool_router_prompt_tokens_total{{{POOL}}}": f"0+60000{DAY} 18060000+60000{DAY}",
            f"kvpool_router_cached_tokens_total{{{POOL}}}": f"0+40000{DAY} 12002000+2000{DAY}",
        },
        {"24h": False, "25h50m": True},
    ),
    "KvpoolQueueGrowing": (
        "1m",
        {
            f"kvpool_router_worker_engine_waiting_requests{{{WORKER}}}": "0x9 0+1x30 30x30",
            f"kvpool_router_worker_ready{{{WORKER}}}": "1x99",
        },
        {"10m": False, "30m": True, "60m": False},
    ),
    "KvpoolOperatorNotReconciling": (
        "1m",
        {f"kvpool_operator_last_reconcile_timestamp_seconds{{{POOL}}}": "0x40 2400x40"},
        {"19m": False, "22m": True, "45m": False},
    ),
    "KvpoolOperatorNotReconciling, none is scraped": (
        "1m",
        {'up{namespace="kvpool-system",container="operator"}': "1x4 0x30"},
        {"8m": False, "11m": True},
    ),
}
"""For each alert: the step, what is scraped, and at which times it is on."""


def expected(case: str, on: bool) -> list[dict[str, Any]]:
    name = case.partition(",")[0]
    if not on:
        return []
    (rule,) = [each for each in RULES["groups"][0]["rules"] if each["alert"] == name]
    about = {} if case.endswith("Reconciling, none is scraped") else {"namespace": "team", "pool": "qwen"}
    if name == "KvpoolEventsNotFlowing":
        about |= {"pod": "qwen-0", "dp_rank": "0"}
    told = {key: filled(text, about) for key, text in rule["annotations"].items()}
    return [{"exp_labels": {**rule["labels"], **about}, "exp_annotations": told}]


def filled(text: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        text = text.replace(f"{{{{ $labels.{name} }}}}", value)
    return text


def test_each_alert_has_a_case():
    assert {name.partition(",")[0] for name in CASES} == {rule["alert"] for rule in RULES["groups"][0]["rules"]}


@pytest.mark.parametrize("case", CASES)
def test_an_alert_is_on_when_it_should_be_and_off_before(case, promtool, tmp_path):
    step, scraped, states = CASES[case]
    series = [{"series": name, "values": values} for name, values in (ALIVE | scraped).items()]
    name = case.partition(",")[0]
    asked = [{"eval_time": at, "alertname": name, "exp_alerts": expected(case, on)} for at, on in states.items()]
    told = {"rule_files": ["rules.yaml"], "evaluation_interval": "1m"}
    told["tests"] = [{"interval": step, "input_series": series, "alert_rule_test": asked}]
    judged(promtool, tmp_path, "test", "rules", "cases.yaml", rules=RULES, cases=told)
