"""How kopf is set and let in."""

from itertools import islice

import kopf
import pytest
from kvpool_operator.cluster.seam import Unavailable
from kvpool_operator.runtime.kopf_settings import Backoffs, kopf_settings
from kvpool_operator.runtime.login import Login
from store_cluster import StoreCluster


def test_calls_are_tried_again_for_ever_with_waits_that_grow_and_are_spread():
    waits = list(islice(Backoffs(), 50))
    assert waits[0] <= 0.65
    assert all(3.5 <= wait <= 6.5 for wait in waits[4:])
    assert list(islice(Backoffs(), 50)) != waits


def test_kopf_takes_no_part_in_peering_scanning_or_events_and_filters_on_the_servers_side():
    settings = kopf_settings()
    assert settings.peering.standalone
    assert settings.scanning.disabled
    assert not settings.posting.enabled
    assert settings.persistence.finalizer == "kvpool.dev/reconcile"
    assert set(settings.watching.label_selectors.values()) == {"kvpool.dev/pool"}
    assert settings.watching.server_timeout < settings.watching.client_timeout


async def test_a_login_that_fails_is_tried_again_soon():
    cluster = StoreCluster()
    cluster.refusing = lambda target: Unavailable("the API server does not accept our credentials")
    with pytest.raises(kopf.TemporaryError, match="cannot log in: the API server does not accept") as failed:
        await Login(cluster, None, []).log_in()
    assert failed.value.delay == 5
