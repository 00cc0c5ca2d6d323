"""Names that a pool needs and somebody else has: nothing of theirs is touched, and no half pool is begun."""

from collections.abc import Sequence

from kvpool_api.conditions import Reason
from kvpool_api.manifest import Manifest, as_text

from kvpool_operator.manifests import name_of
from kvpool_operator.observed import Observed
from kvpool_operator.ownership import controller, is_controlled_by, is_strangers
from kvpool_operator.plan.actions import because, briefly

_MEND = (
    "this pool needs that name, but what bears it is not the pool's and is left alone; give the pool another name, or"
    " delete what bears it or make that anew under another one"
)


def name_taken(seen: Observed) -> Reason | None:
    """What is in the way, and the mend."""
    taken = _strangers(seen)
    if not taken:
        return None
    return because("NameTaken", f"{briefly([*map(_told, taken)])}: {_MEND}")


def may_not_begin(seen: Observed) -> bool:
    """A pool that has nothing yet makes nothing while one of its names is taken; any other goes on with the rest."""
    uid = seen.pool.metadata.uid
    has_begun = bool(seen.engines) or any(is_controlled_by(child, uid) for child in _children(seen))
    return not has_begun and bool(_strangers(seen))


def _children(seen: Observed) -> Sequence[Manifest]:
    return [*([seen.secret] if seen.secret else []), *seen.children.values()]


def _strangers(seen: Observed) -> Sequence[Manifest]:
    return [child for child in _children(seen) if is_strangers(child, seen.pool)]


def _told(child: Manifest) -> str:
    owner = controller(child)
    whose = f" (of {as_text(owner.get('kind'))} {as_text(owner.get('name'))})" if owner else ""
    return f"{as_text(child.get('kind'))} {name_of(child)}{whose}"
