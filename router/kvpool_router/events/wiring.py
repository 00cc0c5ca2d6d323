"""An engine's own account of where it publishes its KV events, against where the router listens. Pure.

Ports may be right and yet lead elsewhere: a pod whose events come from another engine would be credited with that one's
blocks. Each pod's topic is its own, so a batch says whose it is.
"""

from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

PATH = "/kv_event_sources"


class Source(Struct, frozen=True):
    """One DP rank's publisher, as the engine tells it."""

    enable_kv_cache_events: bool = True
    """Newer releases leave ranks out that publish nothing."""
    publisher: str | None = "zmq"
    endpoint: str | None = None
    replay_endpoint: str | None = None
    topic: str | None = None
    data_parallel_rank: int = 0

    @property
    def publishes(self) -> bool:
        return self.enable_kv_cache_events and self.publisher == "zmq"


SILENT = Source(enable_kv_cache_events=False)


class _Listed(Struct):
    sources: list[Source]


_listed = msgspec.json.Decoder(_Listed)
_bare = msgspec.json.Decoder(list[Source])
_by_rank = msgspec.json.Decoder(dict[int, Source])

_SHAPES: tuple[Callable[[bytes], Mapping[int, Source]], ...] = (
    _by_rank.decode,
    lambda answer: {each.data_parallel_rank: each for each in _listed.decode(answer).sources},
    lambda answer: {each.data_parallel_rank: each for each in _bare.decode(answer)},
)
"""0.32 maps ranks to publishers; later releases list them, under `sources` or bare."""


def sources_of(answer: bytes) -> Mapping[int, Source] | None:
    """Publishers by DP rank; None for what cannot be read."""
    for shape in _SHAPES:
        try:
            return shape(answer)
        except msgspec.DecodeError:
            continue
    return None


def contradiction(source: Source | None, heard: bytes | None) -> str | None:
    """Why what is heard is not this engine's; None while nothing speaks against it.

    `source`: None while the engine has not told. `heard`: the topic of the newest live batch, None before the first.
    """
    if source is None:
        return None
    if not source.publishes:
        return (
            f"By its own {PATH} the engine publishes no KV events, so only predictions count;"
            " spec.podTemplate or spec.engine.env may undo what the operator sets."
        )
    if heard is None or source.topic is None or heard == source.topic.encode():
        return None
    return (
        f"The events under this pod's name are another engine's: their topic is {heard.decode(errors='replace')!r},"
        f" the engine's own {source.topic!r}; they are not used."
    )


def elsewhere(source: Source | None, events: str | None, replay: str | None) -> str | None:
    """Where the engine says it publishes, if that is not where the router listens: the likely cause of silence.

    Of tcp addresses only ports are compared, since an engine binds to all of its host's addresses. Another port alone
    is no fault: a relay may stand between.
    """
    if source is None or not source.publishes:
        return None
    for what, ours, theirs in (("its events", events, source.endpoint), ("replays", replay, source.replay_endpoint)):
        if ours is not None and theirs is not None and _place(ours) != _place(theirs):
            return f"By its own {PATH} the engine offers {what} at {theirs}, the pod declares {ours}."
    return None


def _place(address: str) -> str | int:
    """The port of a tcp address; the whole of any other."""
    try:
        port = urlsplit(address).port if address.startswith("tcp://") else None
    except ValueError:
        return address
    return address if port is None else port
