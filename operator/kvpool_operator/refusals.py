"""What the cluster does not let a pool make: asked for ever more seldom, until something is other than it was."""

from collections.abc import Sequence

from kvpool_operator.observed import Observed
from kvpool_operator.plan.actions import Action, CreateEngine, Done

World = tuple[int, frozenset[str]]
"""The spec's generation, and the engines (by uid) that have not ended: what we see of what the answer depends on."""


class Refusals:
    """The last refusal that any new engine of the pool would meet (a quota, a policy, a missing right).

        world   A        A        A                 A  B
        asked   x  .  .  x  .  .  x  .  .  .  .  .  .  x        waits 15 s, 30 s … 300 s; another world: at once

    Rounds that do not ask tell what was refused as if they had. It is kept in memory, for status cannot hold it all: an
    operator that was restarted asks once more than it had to, and loses nothing else.
    """

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._world: World | None = None
        self._refused: tuple[Done, ...] = ()
        self._wait_s = 0.0
        self.again_at = 0.0
        """When new engines are to be asked for again (seconds since the epoch)."""

    def sift(self, actions: Sequence[Action], seen: Observed, now: float) -> tuple[list[Action], tuple[Done, ...]]:
        """What is to be done of this plan, and what stands refused for the rest of it."""
        rest: list[Action] = [action for action in actions if not isinstance(action, CreateEngine)]
        if len(rest) == len(actions) or now >= self.again_at or self._world != _world(seen):
            return list(actions), ()
        return rest, self._refused

    def note(self, done: Sequence[Done], seen: Observed, now: float) -> None:
        """What became of a plan that was made from `seen`."""
        refused = tuple(each for each in done if each.goes_for_all)
        if not refused:
            return
        world = _world(seen)
        again = world == self._world
        self._wait_s = min(2 * self._wait_s, self._most_s) if again else self._first_s
        self._world, self._refused, self.again_at = world, refused, now + self._wait_s


def _world(seen: Observed) -> World:
    standing = frozenset(engine.uid for engine in seen.engines if engine.failed_at is None)
    return seen.pool.metadata.generation, standing
