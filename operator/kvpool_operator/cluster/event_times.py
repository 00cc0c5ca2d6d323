"""Which of several Events is the latest: their writers keep time in different fields."""

from collections.abc import Iterable

from kvpool_api.manifest import Manifest, at

from kvpool_operator.manifests import seconds

_TIMES = (("lastTimestamp",), ("eventTime",), ("firstTimestamp",), ("metadata", "creationTimestamp"))


def latest(events: Iterable[Manifest]) -> Manifest | None:
    """The one told last; of those of one second the one that comes last."""
    return max(enumerate(events), key=lambda numbered: (_told_at(numbered[1]), numbered[0]), default=(0, None))[1]


def _told_at(event: Manifest) -> float:
    return next((time for path in _TIMES if (time := seconds(at(event, path))) is not None), 0.0)
