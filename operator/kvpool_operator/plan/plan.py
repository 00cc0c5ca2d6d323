"""One plan for one observation."""

from collections.abc import Iterator

from kvpool_operator.observed import Engine, Observed
from kvpool_operator.plan.actions import Action, ClearDraining, Plan
from kvpool_operator.plan.adopt import adopt_orphans
from kvpool_operator.plan.broken import clear_broken, replacement_held_until
from kvpool_operator.plan.capacity import Capacity
from kvpool_operator.plan.children import tend_children
from kvpool_operator.plan.drain import drain_deadlines, end_drained
from kvpool_operator.plan.routable import admission_deadlines, admit_engines
from kvpool_operator.plan.strangers import may_not_begin
from kvpool_operator.settings import Settings

POLL_S = 0.5
"""What only routers can tell (a replay done, a request ended) is asked for this often while it is waited for."""


def plan(seen: Observed, settings: Settings, now: float, fresh_token: str) -> Plan:
    """The next actions that bring what is seen to what is asked; none when they agree.

    Nothing is remembered between calls: what comes after these actions follows from the next observation, so that a
    crash in between costs nothing. `fresh_token` becomes the admin token if the pool has none.
    """
    if seen.pool.metadata.deletion_timestamp is not None:
        return Plan((), None)
    changes = () if seen.pool.spec.paused else _changes(seen, settings, now, fresh_token)
    actions = (*changes, *admit_engines(seen, settings, now))
    return Plan(actions, min(_times(seen, settings, now), default=None))


def _changes(seen: Observed, settings: Settings, now: float, fresh_token: str) -> tuple[Action, ...]:
    """All that a paused pool goes without. Admission is not among it: the gate tells what is so, and an engine that
    has come up may serve.
    """
    if may_not_begin(seen):
        return ()
    sized = tuple(Capacity(seen, settings, now).actions())
    called_back = {action.uid for action in sized if isinstance(action, ClearDraining)}
    return (
        *tend_children(seen, settings, fresh_token),
        *adopt_orphans(seen),
        *(action for action in end_drained(seen, now) if action.uid not in called_back),
        *clear_broken(seen, now),
        *sized,
    )


def _times(seen: Observed, settings: Settings, now: float) -> Iterator[float]:
    paused = seen.pool.spec.paused
    of_changes = [] if paused else [*drain_deadlines(seen), replacement_held_until(seen)]
    yield from (at for at in (*of_changes, *admission_deadlines(seen, settings)) if at > now)
    if any(engine.active and _waits_for_routers(engine, paused=paused) for engine in seen.engines):
        yield now + POLL_S


def _waits_for_routers(engine: Engine, *, paused: bool) -> bool:
    is_new = engine.containers_ready_since is not None and not engine.routable
    return is_new or (engine.draining_since is not None and not paused)
