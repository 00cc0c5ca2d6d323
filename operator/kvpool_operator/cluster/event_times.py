"""Which of several Events is the latest: their writers keep time in different fields."""

from collections.abc import Iterable, Sequence

from kvpool_api.manifest import Manifest, as_text, at

from kvpool_operator.manifests import seconds

_TIMES = (("lastTimestamp",), ("eventTime",), ("firstTimestamp",), ("metadata", "creationTimestamp"))


_MOUNT_TIMED_OUT = "Unable to attach or mount volumes"
"""Kubelets say so of all volumes together every two minutes, in turns with what is wrong with one of them."""


def latest(events: Iterable[Manifest]) -> Manifest | None:
    """The one told last; of those of one second the one that comes last.

    One that only tells that volumes are waited for gives way to the latest that tells why.
    """
    told = list(events)
    last = _last(told)
    if last is None or not _is_echo(last):
        return last
    return _last([each for each in told if each.get("reason") == last.get("reason") and not _is_echo(each)]) or last


def _last(events: Sequence[Manifest]) -> Manifest | None:
    return max(enumerate(events), key=lambda numbered: (_told_at(numbered[1]), numbered[0]), default=(0, None))[1]


def _is_echo(event: Manifest) -> bool:
    return as_text(event.get("message")).startswith(_MOUNT_TIMED_OUT)


def _told_at(event: Manifest) -> float:
    return next((time for path in _TIMES if (time := seconds(at(event, path))) is not None), 0.0)
