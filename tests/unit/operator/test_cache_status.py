"""Cache facts in status: rounded, rarely written, null where unknown."""

from dataclasses import replace

from kvpool_api.status import CacheStatus
from kvpool_operator.manifests import rfc3339
from kvpool_operator.observed import Observed
from kvpool_operator.status.cache import cache_status, facts_due_at
from pool_world import SETTINGS, T0, WINDOW, pool, router, router_state, silent_router, worker_state


def answering(prompt=0, cached=0, predicted=0, queue=0, workers=()):
    window = WINDOW.model_copy(update={"prompt_tokens": prompt, "cached_tokens": cached, "predicted_tokens": predicted})
    return replace(router([]), state=router_state(list(workers), window, queue))


def facts(*routers, before=None, now=T0):
    told = pool().status.model_copy(update={"cache": before or CacheStatus()})
    return cache_status(Observed(pool().model_copy(update={"status": told}), routers=routers), SETTINGS, now)


def test_the_hit_rate_is_summed_over_routers_and_rounded():
    found = facts(answering(2000, 1000, 1100), answering(1000, 999, 950))
    assert (found.hit_percent, found.predicted_percent) == (67, 68)
    assert found.observed_at == rfc3339(T0)


def test_a_rate_over_few_tokens_is_unknown_and_so_is_what_no_engine_has_told():
    assert facts(answering(999, 999)) == CacheStatus()


def test_kv_usage_is_a_mean_and_the_queue_a_sum():
    workers = [worker_state("a", kv_usage_percent=20.4, waiting=3), worker_state("b", kv_usage_percent=40, waiting=1)]
    found = facts(answering(queue=2, workers=[*workers, worker_state("new")]), answering(queue=5, workers=workers))
    assert (found.kv_usage_percent, found.queue) == (30, 11)


def test_facts_are_written_at_most_every_ten_seconds_and_only_when_they_differ():
    first = facts(answering(2000, 1000))
    assert facts(answering(2000, 1500), before=first, now=T0 + 9) == first
    assert facts(answering(2000, 1500), before=first, now=T0 + 10).hit_percent == 75
    assert facts(answering(2002, 1001), before=first, now=T0 + 1000) == first


def test_facts_that_nobody_renews_are_withdrawn_in_one_write():
    first = facts(answering(2000, 1000))
    assert facts(silent_router(), before=first, now=T0 + 60) == first
    gone = facts(silent_router(), before=first, now=T0 + 61)
    assert gone == CacheStatus() == facts(before=gone, now=T0 + 1000)


def test_facts_are_looked_at_often_while_they_move_and_seldom_at_rest():
    def due(*routers, told=None, now=T0):
        found = facts_due_at(Observed(pool(), routers=routers), told or CacheStatus(), SETTINGS, now)
        return None if found is None else found - now

    moving = CacheStatus(hit_percent=5, observed_at=rfc3339(T0))
    assert due(answering(), told=moving) == 10
    assert due(answering(), told=moving, now=T0 + 61) == 30
    assert due(answering()) == 30
    assert due(silent_router(), told=moving) == 10
    assert due(silent_router()) is None
