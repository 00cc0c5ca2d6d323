"""What kopf calls. Handlers only pass on what is seen: the work is done by the loops, one a pool."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, cast

import kopf

from kvpool_operator.cluster.seam import Change, Kind, Manifest
from kvpool_operator.loop import Loops
from kvpool_operator.runtime.pulse import Pulse
from kvpool_operator.runtime.watched import WATCHED


class LogsIn(Protocol):
    """Credentials for kopf's watches."""

    async def log_in(self, **_: object) -> kopf.AiohttpSession:
        """Raises kopf.TemporaryError: ask again later."""
        ...


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the handlers speak to."""

    loops: Loops
    pulse: Pulse
    login: LogsIn
    ending: Callable[[], Awaitable[None]]
    """Called when kopf has stopped watching: whatever still runs must end, or kopf waits for it."""


def build_registry(runtime: Runtime) -> kopf.OperatorRegistry:
    """A registry that knows nothing of other operators in this process.

    No daemons, though each pool has a loop: kopf puts a finalizer on every object that has a daemon, and a pool with a
    finalizer cannot be deleted once its operator is gone. Loops end by themselves when their pool does.
    """
    registry = kopf.OperatorRegistry()
    kopf.on.login(id="login", registry=registry)(runtime.login.log_in)
    for kind in WATCHED:
        _follow(registry, kind, runtime.loops.changed)

    @kopf.on.probe(id="alive", registry=registry)
    async def alive(**_: object) -> str:
        complaints = list(runtime.pulse.complaints())
        if complaints:  # any other error would be tried again, and the probe would hang
            raise kopf.PermanentError("; ".join(complaints))
        return "every watch and every pool is attended to"

    @kopf.on.cleanup(id="end", registry=registry)
    async def end(**_: object) -> None:
        runtime.loops.stop()
        await runtime.ending()

    return registry


def _follow(registry: kopf.OperatorRegistry, kind: Kind, changed: Callable[[Kind, Change], None]) -> None:
    @kopf.on.event(kind.api_version, kind.plural, id=kind.plural, registry=registry)
    async def told(event: kopf.RawEvent, **_: object) -> None:
        changed(kind, _change(event))


def _change(event: kopf.RawEvent) -> Change:
    """What comes with a list has no type, and is as good as new."""
    kind = event["type"]
    manifest = cast(Manifest, event["object"])
    return Change(kind if kind == "DELETED" or kind == "MODIFIED" else "ADDED", manifest)
