"""kopf's dials, as this operator wants them."""

import random
from collections.abc import Iterator

import kopf
from kvpool_api.labels import POOL

from kvpool_operator.runtime.watched import CHILDREN

FINALIZER = "kvpool.dev/reconcile"
"""Never set, since nothing here needs one. But kopf takes a finalizer of its name off whatever it sees, and its default
name is that of every other kopf operator."""
WATCH_S = 240
INACTIVITY_S = 70.0
CONNECT_S = 10.0
END_LIMIT_S = 8.0
"""kopf kills the process when its end takes longer. Told to end it needs less than one second; but after an error that
it cannot handle it may wait for ever for its other watches, and the kubelet starts anew only what is dead."""
WATCH_LIMIT_S = WATCH_S + INACTIVITY_S + 50.0
"""A watch that was opened longer ago than this is dead."""


class Backoffs:
    """Waits between tries of a call, for ever: an API server that is away for an hour must not end the operator."""

    def __iter__(self) -> Iterator[float]:
        wait_s = 0.5
        while True:
            yield wait_s * random.uniform(0.7, 1.3)  # noqa: S311 - spreads retries
            wait_s = min(2 * wait_s, 5.0)


def kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.finalizer = FINALIZER
    settings.execution.default_backoff = 5
    settings.process.ultimate_exiting_timeout = END_LIMIT_S
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = CONNECT_S
    settings.networking.enforce_retry_after = True
    settings.networking.error_backoffs = Backoffs()
    settings.watching.server_timeout = WATCH_S
    settings.watching.client_timeout = WATCH_S + 10
    settings.watching.connect_timeout = CONNECT_S
    settings.watching.inactivity_timeout = INACTIVITY_S
    settings.watching.chunk_size = 500
    for kind in CHILDREN:
        settings.watching.label_selectors[kind.api_version, kind.plural] = POOL
    return settings
