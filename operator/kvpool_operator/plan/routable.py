"""The readiness gate: an engine counts as ready once the routers know its cache, or have had time enough."""

from collections.abc import Iterator

from kvpool_operator.observed import Engine, Observed
from kvpool_operator.plan.actions import SetRoutable, because
from kvpool_operator.settings import Settings


def admit_engines(seen: Observed, settings: Settings, now: float) -> Iterator[SetRoutable]:
    """Engines that pass now. Passing is for good: a router that loses track later does not take an engine away."""
    for engine in _waiting(seen):
        if _known_to_routers(seen, engine):
            reason = because("Synced", "every router has subscribed to its KV events and replayed them")
            yield SetRoutable(engine.name, engine.uid, reason)
        elif now >= _limit(seen, settings, engine):
            waited = round(now - (engine.containers_ready_since or now))
            reason = because(
                "SyncTimeout", f"the routers have not replayed its KV events in {waited} s; admitted anyway"
            )
            yield SetRoutable(engine.name, engine.uid, reason)


def admission_deadlines(seen: Observed, settings: Settings) -> Iterator[float]:
    """When engines that wait are admitted anyway."""
    return (_limit(seen, settings, engine) for engine in _waiting(seen))


def _waiting(seen: Observed) -> list[Engine]:
    return [e for e in seen.engines if e.active and not e.routable and e.containers_ready_since is not None]


def _limit(seen: Observed, settings: Settings, engine: Engine) -> float:
    box = seen.pool.spec.kv_events.sync_timeout_seconds + settings.routable_grace_s
    return (engine.containers_ready_since or 0.0) + box


def _known_to_routers(seen: Observed, engine: Engine) -> bool:
    answers = [router.workers_of(engine.name) for router in seen.routers if router.state and not router.terminating]
    return bool(answers) and all(workers and all(worker.synced for worker in workers) for workers in answers)
