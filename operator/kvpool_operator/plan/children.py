"""What the pool owns beside its engines: made where it is missing, mended where somebody changed it."""

from collections.abc import Iterator

from kvpool_api.manifest import Manifest, as_map, as_text
from pydantic import JsonValue

from kvpool_operator.build.access import admin_secret
from kvpool_operator.build.children import children
from kvpool_operator.build.quantities import canonical_quantity
from kvpool_operator.manifests import name_of, uid_of
from kvpool_operator.observed import Observed
from kvpool_operator.ownership import is_controlled_by, is_strangers
from kvpool_operator.plan.actions import ApplyChild, because
from kvpool_operator.settings import Settings

_NAMED = 3
"""So many changed fields are named in a reason."""

_LISTS_BY_KEY = {
    "containers": "name",
    "env": "name",
    "imagePullSecrets": "name",
    "initContainers": "name",
    "ownerReferences": "uid",
    "ports": "name",
    "volumeMounts": "mountPath",
    "volumes": "name",
}
"""Lists that server-side apply merges item by item, so others may add to them; any other list is ours as a whole."""
_AMOUNTS = frozenset({"limits", "requests"})
_FALSE_IS_UNSET = frozenset({"hostIPC", "hostNetwork", "hostPID", "readOnly", "stdin", "stdinOnce", "tty"})
"""Fields that the API server leaves out where they are false; with any other, unset means something of its own."""


def tend_children(seen: Observed, settings: Settings, fresh_token: str) -> Iterator[ApplyChild]:
    """The Secret first: the router's Pod waits for it. What strangers have made is left alone."""
    yield from _tend_secret(seen, fresh_token)
    for wanted in children(seen.pool, settings):
        kind, name = as_text(wanted["kind"]), name_of(wanted)
        live = seen.children.get((kind, name))
        if live is None:
            yield ApplyChild(wanted, because("Created", f"{kind} {name} was missing"))
        elif not is_strangers(live, seen.pool) and (changed := list(drift(wanted, live))):
            why = because("Updated", f"{kind} {name} differed in {_told(changed)}")
            yield ApplyChild(wanted, why, uid_of(live))


def _tend_secret(seen: Observed, fresh_token: str) -> Iterator[ApplyChild]:
    """Taken over from a deleted pool it keeps its token: routers may know it."""
    pool, live = seen.pool, seen.secret
    if live and is_strangers(live, pool):
        return
    if seen.token is None:
        secret = admin_secret(pool, fresh_token)
        told = f"Secret {name_of(secret)} {'held no token' if live else 'was missing'}"
        yield ApplyChild(secret, because("Created", told), uid_of(live))
    elif live and not is_controlled_by(live, pool.metadata.uid):
        secret = admin_secret(pool, seen.token)
        told = f"Secret {name_of(secret)} was a deleted pool's of this name"
        yield ApplyChild(secret, because("Updated", told), uid_of(live))


def drift(wanted: JsonValue, live: JsonValue, path: str = "") -> Iterator[str]:
    """Paths at which the live object lacks or contradicts what is wanted; what it has beyond that is others' affair."""
    name = path.rpartition(".")[2]
    if wanted == live or (live is None and _left_out(wanted, name)):
        return
    if isinstance(wanted, dict) and isinstance(live, dict):
        if name in _AMOUNTS:
            wanted, live = _canonical(wanted), _canonical(live)
        for key, value in wanted.items():
            yield from drift(value, live.get(key), f"{path}.{key}" if path else key)
    elif isinstance(wanted, list) and isinstance(live, list):
        yield from _list_drift(wanted, live, path)
    else:
        yield path


def _left_out(wanted: JsonValue, name: str) -> bool:
    """The API server keeps no such value."""
    return wanted in ({}, [], "") or (wanted is False and name in _FALSE_IS_UNSET)


def _canonical(amounts: Manifest) -> Manifest:
    """Both sides in the shortest way: a pool's own words (podTemplate) stand in what is wanted as they were written."""
    return {name: canonical_quantity(str(amount)) for name, amount in amounts.items()}


def _list_drift(wanted: list[JsonValue], live: list[JsonValue], path: str) -> Iterator[str]:
    key = _LISTS_BY_KEY.get(path.rpartition(".")[2])
    if key and all(key in as_map(item) for item in (*wanted, *live)):
        known = {str(as_map(item)[key]): item for item in live}
        for item in wanted:
            name = str(as_map(item)[key])
            yield from drift(item, known.get(name), f"{path}[{name}]")
    elif len(wanted) == len(live):
        for index, (value, found) in enumerate(zip(wanted, live, strict=True)):
            yield from drift(value, found, f"{path}[{index}]")
    else:
        yield path


def _told(paths: list[str]) -> str:
    rest = len(paths) - _NAMED
    return ", ".join(paths[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
