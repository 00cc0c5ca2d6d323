"""Alerts, board and pages speak of metrics, conditions and reasons that there are, and of all of them."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import exposed_metrics
import pytest
import yaml
from kvpool_api.conditions import ConditionType
from kvpool_api.labels import ROLE, ROLE_ENGINE, ROLE_ROUTER
from kvpool_api.wire import HTTP_PORT_NAME
from reason_codes import reason_codes

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "deploy" / "monitoring"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
OURS = [*exposed_metrics.of_operator(), *exposed_metrics.of_router()]
SERIES = {name for each in (*OURS, *exposed_metrics.of_simulated_engine()) for name in each.series()}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["spec"]["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((MONITORING / "board.json").read_text())["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    yield from ((rule["alert"], rule["expr"]) for rule in rules())
    yield from ((panel["title"], target["expr"]) for panel in panels() for target in panel.get("targets", []))


@pytest.mark.parametrize(("where", "promql"), list(expressions()))
def test_every_metric_asked_for_is_exposed(where, promql):
    assert exposed_metrics.names_in(promql) - SERIES == set()
    assert exposed_metrics.names_in(promql) or "up{" in promql, where


def test_there_are_six_alerts_each_with_an_entry_in_the_runbook():
    found = {rule["alert"]: rule for rule in rules()}
    assert len(found) == 6
    for name, rule in found.items():
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
        assert re.search(f"^### {name}$", RUNBOOK, re.M)
        assert rule["for"]
        assert rule["labels"]["severity"] in ("critical", "warning")


def first_cells(page: str) -> set[str]:
    """Words in code style in the first column of tables."""
    return {
        word
        for line in page.splitlines()
        if line.startswith("| `")
        for word in re.findall("`([^`]+)`", line.split("|")[1])
    }


def test_the_runbook_explains_every_reason_and_condition_and_no_other():
    known = reason_codes() | {condition.value for condition in ConditionType}
    assert first_cells(RUNBOOK) == known


def test_every_metric_of_operator_and_router_is_documented_as_it_describes_itself():
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*) \|$", page, re.M)
    assert sorted(rows) == sorted((each.name, each.type, each.help) for each in OURS)


def test_monitors_select_the_pods_and_ports_that_there_are():
    monitors = {
        each["metadata"]["name"]: each for each in yaml.safe_load_all((MONITORING / "pod_monitors.yaml").read_text())
    }
    selected = {name: each["spec"]["selector"]["matchLabels"] for name, each in monitors.items()}
    deployment = yaml.safe_load((ROOT / "deploy/base/deployment.yaml").read_text())
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = [port["name"] for port in deployment["spec"]["template"]["spec"]["containers"][0]["ports"]]
    assert selected["kvpool-operator"].items() <= labels.items()
    assert selected["kvpool-routers"] == {ROLE: ROLE_ROUTER}
    assert selected["kvpool-engines"] == {ROLE: ROLE_ENGINE}
    asked = {name: each["spec"]["podMetricsEndpoints"][0]["port"] for name, each in monitors.items()}
    assert asked["kvpool-operator"] in ports
    assert {asked["kvpool-routers"], asked["kvpool-engines"]} == {HTTP_PORT_NAME}


def test_panels_lie_side_by_side_and_have_ids_of_their_own():
    places = [panel["gridPos"] for panel in panels()]
    assert len({panel["id"] for panel in panels()}) == len(places)
    assert len({(place["x"], place["y"]) for place in places}) == len(places)
    assert all(place["x"] + place["w"] <= 24 for place in places)
