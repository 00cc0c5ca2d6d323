"""The second half of a drain: when an engine that gets nothing new may end."""

from collections.abc import Iterator

from kvpool_api.conditions import Reason

from kvpool_operator.observed import Engine, Observed, Router
from kvpool_operator.plan.actions import DeleteEngine, because


def end_drained(seen: Observed, now: float) -> Iterator[DeleteEngine]:
    """Engines that have drained, or whose time is up."""
    for engine in seen.engines:
        if engine.active and engine.draining_since is not None:
            reason = drained(seen, engine, engine.draining_since, now)
            if reason is not None:
                yield DeleteEngine(engine.name, engine.uid, reason)


def drained(seen: Observed, engine: Engine, since: float, now: float) -> Reason | None:
    """Why the engine may end now, or None: somebody may still send to it, or waits for an answer."""
    timeout = seen.pool.spec.drain.timeout_seconds
    if now >= since + timeout:
        return because("DrainTimeout", f"{_held_by(seen, engine)} after {timeout} s")
    if _never_served(seen, engine):
        return because("Drained", "it never served anybody")
    if all(_has_let_go(router, engine.name) for router in seen.routers):
        return because("Drained", "every router has stopped sending to it and nothing is in flight")
    return None


def _never_served(seen: Observed, engine: Engine) -> bool:
    in_flight = (worker.in_flight for router in seen.routers for worker in router.workers_of(engine.name))
    return engine.containers_ready_since is None and not engine.routable and not any(in_flight)


def _has_let_go(router: Router, engine: str) -> bool:
    """A silent router may hold connections still, and so may one on its way out; one whose process ended cannot."""
    if router.state is None:
        return not router.running
    return all(worker.draining and not worker.in_flight for worker in router.workers_of(engine))


def _held_by(seen: Observed, engine: Engine) -> str:
    silent = [router.name for router in seen.routers if router.state is None and router.running]
    in_flight = sum(worker.in_flight for router in seen.routers for worker in router.workers_of(engine.name))
    if in_flight:
        return f"{in_flight} requests were still in flight"
    return f"router {silent[0]} had not answered" if silent else "a router had not let go of it"


def drain_deadlines(seen: Observed) -> Iterator[float]:
    """When drains run out of time."""
    timeout = seen.pool.spec.drain.timeout_seconds
    return (e.draining_since + timeout for e in seen.engines if e.active and e.draining_since is not None)
