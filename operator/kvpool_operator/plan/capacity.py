"""How many engines there are, against how many are wanted: created, taken back from a drain, or shed; and rolled."""

from collections.abc import Iterator, Sequence

from kvpool_api.conditions import Reason

from kvpool_operator.build.engine_pod import engine_pod
from kvpool_operator.build.names import template_hash
from kvpool_operator.manifests import name_of
from kvpool_operator.observed import Engine, Observed
from kvpool_operator.plan.actions import Action, ClearDraining, CreateEngine, MarkDraining, because
from kvpool_operator.plan.broken import held_back
from kvpool_operator.plan.template import CurrentTemplate
from kvpool_operator.settings import Settings


class Capacity:
    """One look at the engines of one observation.

        kept:      active and not draining; `old` of them are outdated, the rest `current`
        standing:  all that are not on their way out and not broken: what surge is counted by

    Never more standing than replicas + maxSurge by our doing, never fewer available than replicas - maxUnavailable.
    """

    def __init__(self, seen: Observed, settings: Settings, now: float) -> None:
        self._seen = seen
        self._revision = settings.builder_revision
        self._now = now
        spec = seen.pool.spec
        self._replicas = spec.replicas
        self._most = spec.replicas + spec.rollout.max_surge
        self._fewest_available = spec.replicas - spec.rollout.max_unavailable
        current = CurrentTemplate(seen.pool, settings.builder_revision)
        self._why_old = {e.name: current.why_outdated(e) for e in seen.engines if e.active}
        self._kept = seen.kept
        self._standing = sum(engine.active for engine in seen.engines)

    def actions(self) -> Iterator[Action]:
        missing = self._replicas - len(self._kept)
        if missing > 0:
            yield from self._fill(missing)
        elif missing < 0:
            yield from self._shed(-missing)
        else:
            yield from self._roll()

    def _is_old(self, engine: Engine) -> bool:
        return self._why_old[engine.name] is not None

    def _fill(self, missing: int) -> Iterator[Action]:
        """First back from their drain, warmest first, what has its cache still; then new ones.

        What replaces an engine that broke too soon waits (see `broken`), and draining engines count against surge: they
        hold their GPUs until they end.
        """
        leaving = [e for e in self._seen.engines if e.active and not e.kept and not self._is_old(e)]
        returned = sorted(leaving, key=self._worth, reverse=True)[:missing]
        for engine in returned:
            yield ClearDraining(engine.name, engine.uid, because("Undrained", "demand has returned"))
        wanted = missing - len(returned) - held_back(self._seen, self._now)
        room = self._most - self._standing
        yield from self._create(min(wanted, room), because("Created", f"{len(self._kept)} of {self._replicas} exist"))

    def _shed(self, surplus: int) -> Iterator[Action]:
        """During a rollout the surplus is the surge, and only outdated engines go."""
        old = [engine for engine in self._kept if self._is_old(engine)]
        leaving = sorted(old or self._kept, key=self._worth)[:surplus]
        for engine in self._dispensable(leaving):
            yield self._mark(engine, because("ScaledIn", f"{len(self._kept)} exist, {self._replicas} are wanted"))

    def _roll(self) -> Iterator[Action]:
        """New engines first, as far as surge allows; then old ones leave, as far as the rest still serves enough."""
        old = sorted((engine for engine in self._kept if self._is_old(engine)), key=self._worth)
        if not old:
            return
        room = min(self._most - self._standing, len(old))
        yield from self._create(room, self._why_old[old[0].name] or because("TemplateChanged", ""))
        for engine in self._dispensable(old):
            yield self._mark(engine, because("TemplateChanged", "it is outdated"))

    def _dispensable(self, engines: Sequence[Engine]) -> Iterator[Engine]:
        """The first of these that may all leave at once with enough engines left to serve."""
        available = self._seen.available
        for engine in engines:
            if engine.available:
                if available <= self._fewest_available:
                    return
                available -= 1
            yield engine

    def _mark(self, engine: Engine, reason: Reason) -> MarkDraining:
        return MarkDraining(engine.name, engine.uid, self._why_old[engine.name] or reason)

    def _create(self, count: int, reason: Reason) -> Iterator[CreateEngine]:
        hash_of_template = template_hash(self._seen.pool, self._revision)
        taken = {engine.slot for engine in self._seen.engines if engine.template_hash == hash_of_template}
        slot = 0
        for _ in range(count):
            while slot in taken:
                slot += 1
            taken.add(slot)
            manifest = engine_pod(self._seen.pool, slot, self._revision)
            yield CreateEngine(name_of(manifest), manifest, reason)

    def _worth(self, engine: Engine) -> tuple[bool, int, int, str]:
        """Least first: not serving, little in flight, little cached; the name decides between equals."""
        workers = [worker for router in self._seen.routers for worker in router.workers_of(engine.name)]
        in_flight = sum(worker.in_flight for worker in workers)
        blocks = max((worker.blocks for worker in workers), default=0)
        return (engine.available, in_flight, blocks, engine.name)
