"""Engines that nobody controls: what a deleted pool of this name left behind (`kubectl delete --cascade=orphan`)."""

from collections.abc import Iterator

from kvpool_api.labels import ROLE_ENGINE
from kvpool_api.manifest import as_list, as_map

from kvpool_operator.build.parts import metadata
from kvpool_operator.observed import Observed
from kvpool_operator.ownership import is_orphan_of
from kvpool_operator.plan.actions import AdoptEngine, because


def adopt_orphans(seen: Observed) -> Iterator[AdoptEngine]:
    """They are counted, so they are the pool's: without an owner they would outlive it."""
    for engine in seen.engines:
        if not engine.terminating and is_orphan_of(engine.pod, seen.pool.metadata):
            meta = metadata(seen.pool, engine.name, ROLE_ENGINE)
            why = because("Adopted", "it bears the pool's label and belonged to nobody")
            yield AdoptEngine(engine.name, engine.uid, as_map(meta["labels"]), as_list(meta["ownerReferences"]), why)
