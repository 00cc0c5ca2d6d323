"""What must hold before the operator starts."""

import logging

import pytest
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Forbidden, NotFound, Unauthorized, Unavailable
from kvpool_operator.runtime.options import StartError
from kvpool_operator.runtime.preflight import preflight
from kvpool_operator.settings import Settings
from store_cluster import StoreCluster

QUICK = Settings(back_off_s=(0.001,))


def answering(kind, error):
    cluster = StoreCluster()
    cluster.refusing = lambda target: error if target is kind else None
    return cluster


async def test_a_cluster_with_all_that_is_needed_is_passed():
    await preflight(StoreCluster(), (), QUICK)


async def test_without_the_crd_the_mend_is_told():
    with pytest.raises(StartError, match=r"inferencepools\.kvpool\.dev is not installed; install it: kubectl apply"):
        await preflight(answering(seam.POOL, NotFound("no")), (), QUICK)


async def test_a_cluster_that_is_too_old_is_named():
    with pytest.raises(StartError, match="does not know networkpolicies of networking"):
        await preflight(answering(seam.NETWORK_POLICY, NotFound("no")), (), QUICK)


@pytest.mark.parametrize(("namespaces", "mend"), [((), "-k deploy/`"), (("a",), "-k deploy/namespaced`")])
async def test_a_missing_permission_is_told_with_what_grants_it(namespaces, mend):
    with pytest.raises(StartError, match=mend):
        await preflight(answering(seam.POD, Forbidden("x may not list pods")), namespaces, QUICK)


async def test_credentials_that_are_refused_end_the_start_with_the_mend():
    refusal = Unauthorized("the API server does not accept our credentials: Unauthorized")
    with pytest.raises(StartError, match=r"does not accept our credentials: Unauthorized; name a kubeconfig that"):
        await preflight(answering(seam.POOL, refusal), (), QUICK)


async def test_an_api_server_that_is_away_is_waited_for(caplog):
    troubles = [Unavailable("down"), Unavailable("down")]
    cluster = StoreCluster()
    cluster.refusing = lambda target: troubles.pop() if troubles else None
    with caplog.at_level(logging.WARNING):
        await preflight(cluster, (), QUICK)
    assert [record.getMessage() for record in caplog.records] == ["waiting for the API server: down"] * 2
