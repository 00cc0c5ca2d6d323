"""Whose an object is that bears the name or the labels of a pool's child. Only what is the pool's is ever written to.

Its controller is the pool: ours. It has none, but our pool label: ours to adopt, as `kubectl delete --cascade=orphan`
leaves it. A deleted pool of this name: ours to adopt before it is collected, but for Pods. Anything else: a stranger's.
"""

from kvpool_api.labels import POOL
from kvpool_api.manifest import Manifest, as_list, as_map, as_text, at
from kvpool_api.meta import GROUP, POOL_KIND
from kvpool_api.pool import InferencePool, ObjectMeta

from kvpool_operator.manifests import label


def controller(child: Manifest) -> Manifest:
    """The owner reference that controls it; empty where none does."""
    owners = map(as_map, as_list(at(child, ("metadata", "ownerReferences"))))
    return next((owner for owner in owners if owner.get("controller") is True), {})


def is_controlled_by(child: Manifest, pool_uid: str) -> bool:
    return controller(child).get("uid") == pool_uid


def is_orphan_of(child: Manifest, pool: ObjectMeta) -> bool:
    """Nobody controls it, and its label says that it was this pool's."""
    return not controller(child) and label(child, POOL) == pool.name


def is_strangers(child: Manifest, pool: InferencePool) -> bool:
    """It is neither the pool's nor the pool's to take."""
    of_deleted = _is_of_pool_named(controller(child), pool.metadata.name)
    return not (of_deleted or is_controlled_by(child, pool.metadata.uid) or is_orphan_of(child, pool.metadata))


def _is_of_pool_named(owner: Manifest, name: str) -> bool:
    """Of this name there is but one at a time: one with another uid is gone."""
    is_pool = owner.get("kind") == POOL_KIND and as_text(owner.get("apiVersion")).partition("/")[0] == GROUP
    return is_pool and owner.get("name") == name
