"""The operator's rights are what it uses, by the audit logs of the whole ring: this runs last.

The name puts it there. It speaks of what every other test of the ring has made the operator do, so it tells what is to
spare only where all of them have run: in one run of pytest, or in several, whose nodes' audit logs are then named.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from install_manifests import DEPLOY, NAMESPACE, kustomized
from kvnode.node import Node
from verbs_used import compared

HERE = Path(__file__).resolve().parent
OPERATOR = f"system:serviceaccount:{NAMESPACE}:kvpool-operator"
EXEMPT = {("kvpool.dev", "inferencepools/finalizers", "update")}
"""Asked for by an admission plugin (OwnerReferencesPermissionEnforcement), which asks without a request."""
WHOLE_RING = "KVPOOL_RING_AUDIT_LOGS"
"""Paths, as PATH has them: what the nodes have logged on which all other tests have just run."""


def is_whole_ring(session: pytest.Session) -> bool:
    return WHOLE_RING in os.environ or {item.path for item in session.items} >= set(HERE.glob("test_*.py"))


@pytest.fixture
def audit_logs(request: pytest.FixtureRequest, own_node: Node) -> Sequence[Path]:
    """Those that are named, else that of this node, on which an operator then works."""
    if named := os.environ.get(WHOLE_RING):
        return [Path(path) for path in named.split(os.pathsep)]
    request.getfixturevalue("operator_in_cluster")
    return [own_node.audit_log]


def test_verbs_used_are_the_verbs_granted_none_missing_none_to_spare(
    request: pytest.FixtureRequest, audit_logs: Sequence[Path]
):
    (role,) = [
        each
        for each in kustomized(DEPLOY)
        if (each["kind"], each["metadata"]["name"]) == ("ClusterRole", "kvpool-operator")
    ]
    found = compared(audit_logs, OPERATOR, role["rules"], EXEMPT)
    assert found.missing == set()
    if not is_whole_ring(request.session):
        pytest.skip(f"what is to spare shows only in the whole ring; here: {sorted(found.to_spare)}")
    assert found.to_spare == set()
