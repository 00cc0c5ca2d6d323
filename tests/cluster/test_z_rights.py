"""The operator's rights are what it uses, by the audit log of the whole ring: this runs last.

The name puts it there. It speaks of what every other test of the ring has made the operator do, so it tells what is to
spare only where all of them run.
"""

from pathlib import Path

import pytest
from install_manifests import DEPLOY, NAMESPACE, kustomized
from kubectl import Kubectl
from kvnode.node import Node
from verbs_used import compared

HERE = Path(__file__).resolve().parent
OPERATOR = f"system:serviceaccount:{NAMESPACE}:kvpool-operator"
EXEMPT = {("kvpool.dev", "inferencepools/finalizers", "update")}
"""Asked for by an admission plugin (OwnerReferencesPermissionEnforcement), which asks without a request."""


def is_whole_ring(session: pytest.Session) -> bool:
    return {item.path for item in session.items} >= set(HERE.glob("test_*.py"))


@pytest.mark.usefixtures("operator_in_cluster")
def test_verbs_used_are_the_verbs_granted_none_missing_none_to_spare(
    request: pytest.FixtureRequest, own_node: Node, admin: Kubectl
):
    (role,) = [
        each
        for each in kustomized(DEPLOY)
        if (each["kind"], each["metadata"]["name"]) == ("ClusterRole", "kvpool-operator")
    ]
    found = compared(own_node.audit_log, OPERATOR, role["rules"], EXEMPT)
    assert found.missing == set()
    if not is_whole_ring(request.session):
        pytest.skip(f"what is to spare shows only in the whole ring; here: {sorted(found.to_spare)}")
    assert found.to_spare == set()
