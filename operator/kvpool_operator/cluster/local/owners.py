"""Background collection: an object goes once none of the owners that it names exists."""

from collections.abc import Collection

from kvpool_operator.cluster.local.manifests import owner_uids
from kvpool_operator.cluster.seam import Manifest
from kvpool_operator.manifests import is_terminating, uid_of


def orphans(objects: Collection[Manifest]) -> list[Manifest]:
    """Objects to delete now. An owner is known by its uid: one of the same name made anew is another object."""
    alive = {uid_of(manifest) for manifest in objects}
    return [manifest for manifest in objects if not is_terminating(manifest) and _is_orphan(manifest, alive)]


def _is_orphan(manifest: Manifest, alive: set[str]) -> bool:
    owners = tuple(owner_uids(manifest))
    return bool(owners) and alive.isdisjoint(owners)
