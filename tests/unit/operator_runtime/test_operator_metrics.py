"""What the operator's metrics count and show."""

import pytest
from kvpool_api.conditions import Condition, Reason
from kvpool_api.status import InferencePoolStatus
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Ref, Unavailable
from kvpool_operator.plan.actions import DeleteEngine, Done
from kvpool_operator.runtime.metrics import OperatorMetrics
from kvpool_operator.runtime.pulse import Pulse
from prometheus_client import CollectorRegistry

QWEN = Ref(seam.POOL, "default", "qwen")
WHOSE = {"namespace": "default", "pool": "qwen"}


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def metrics(registry):
    pulse = Pulse([], clock=lambda: 50.0, watch_limit_s=1, round_limit_s=1)
    return OperatorMetrics(registry, pulse, clock=lambda: 1_800_000_000.0)


def status(ready):
    conditions = [Condition(type="Ready", status=ready, last_transition_time="2026-01-01T00:00:00Z", reason="R")]
    return InferencePoolStatus(conditions=conditions, replicas=2, desired_replicas=3, routable_replicas=1)


def test_rounds_are_counted_by_outcome_and_timed(metrics, registry):
    metrics.pool_begins(QWEN)
    metrics.round_ends(QWEN, 0.2, None)
    metrics.round_ends(QWEN, 0.3, Unavailable("down"))
    assert registry.get_sample_value("kvpool_operator_reconciles_total", {"outcome": "ok"}) == 1
    assert registry.get_sample_value("kvpool_operator_reconciles_total", {"outcome": "failed"}) == 1
    assert registry.get_sample_value("kvpool_operator_reconcile_seconds_sum") == 0.5
    assert registry.get_sample_value("kvpool_operator_last_reconcile_timestamp_seconds", WHOSE) == 1_800_000_000
    assert registry.get_sample_value("kvpool_operator_pools") == 1


def test_actions_and_calls_are_counted(metrics, registry):
    action = DeleteEngine("qwen-0", "u", Reason(code="ScaledIn"))
    metrics.acted([Done(action, None), Done(action, "no"), Done(action, None, overtaken=True)])
    metrics.called("patch", "409")
    for outcome in ("done", "refused"):
        told = {"action": "DeleteEngine", "outcome": outcome}
        assert registry.get_sample_value("kvpool_operator_actions_total", told) == 1
    assert registry.get_sample_value("kvpool_operator_api_calls_total", {"verb": "patch", "code": "409"}) == 1


def test_a_pools_state_is_shown_while_it_lives(metrics, registry):
    metrics.pool_begins(QWEN)
    metrics.reported(QWEN, status("Unknown"))
    metrics.reported(QWEN, status("True"))
    ready = [
        registry.get_sample_value("kvpool_operator_pool_condition", {**WHOSE, "condition": "Ready", "status": each})
        for each in ("True", "False", "Unknown")
    ]
    assert ready == [1, 0, 0]
    assert registry.get_sample_value("kvpool_operator_pool_replicas", {**WHOSE, "state": "desired"}) == 3
    metrics.pool_ends(QWEN)
    assert registry.get_sample_value("kvpool_operator_pool_replicas", {**WHOSE, "state": "desired"}) is None
    assert registry.get_sample_value("kvpool_operator_pools") == 0
