"""What a plan consists of: data, each with its reason. The reason becomes Event, log line and condition."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kvpool_api.conditions import Reason
from kvpool_api.manifest import Manifest, as_text
from pydantic import JsonValue

from kvpool_operator.manifests import name_of


@dataclass(frozen=True, slots=True)
class ApplyChild:
    """Make or mend something that the pool owns."""

    manifest: Manifest
    reason: Reason
    uid: str = ""
    """Of exactly which object; none: of none yet, and one that comes first is left alone."""


@dataclass(frozen=True, slots=True)
class CreateEngine:
    """A new engine Pod."""

    name: str
    manifest: Manifest
    reason: Reason


@dataclass(frozen=True, slots=True)
class AdoptEngine:
    """A Pod that is the pool's gets the labels and the owner again by which that is seen."""

    name: str
    uid: str
    labels: Manifest
    owners: list[JsonValue]
    reason: Reason


@dataclass(frozen=True, slots=True)
class DeleteEngine:
    """Exactly this Pod ends, with its own grace period."""

    name: str
    uid: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class MarkDraining:
    """From now on routers send the Pod nothing new."""

    name: str
    uid: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class ClearDraining:
    """The Pod is wanted after all."""

    name: str
    uid: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class SetRoutable:
    """The Pod passes its readiness gate, for as long as it lives."""

    name: str
    uid: str
    reason: Reason


Action = ApplyChild | CreateEngine | AdoptEngine | DeleteEngine | MarkDraining | ClearDraining | SetRoutable


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one action."""

    action: Action
    refused: str | None
    """The cluster's own words where it did not do it."""
    goes_for_all: bool = False
    """It was a new engine, and any other would meet the same: a quota, a policy, a missing right."""
    overtaken: bool = False
    """Nothing was done: the world was no longer as the plan supposes, and the next look shows how it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The next actions, and when the world should be looked at again even if nothing happens."""

    actions: tuple[Action, ...]
    look_again_at: float | None
    """Seconds since the epoch; None: only when something changes."""


def subject(action: Action) -> str:
    """What the action is about."""
    match action:
        case ApplyChild():
            return f"{as_text(action.manifest['kind'])} {name_of(action.manifest)}"
        case _:
            return action.name


def by_kind_and_reason(actions: Iterable[Action]) -> list[list[Action]]:
    """Actions that differ only in what they are about, together, in the order of the first of each."""
    alike: dict[tuple[type[Action], Reason], list[Action]] = {}
    for action in actions:
        alike.setdefault((type(action), action.reason), []).append(action)
    return list(alike.values())


def briefly(names: Sequence[str]) -> str:
    """The first of these, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def because(code: str, message: str) -> Reason:
    """A reason; too long a message loses its end."""
    limit = 1024
    return Reason(code=code, message=message if len(message) <= limit else message[: limit - 1] + "…")
