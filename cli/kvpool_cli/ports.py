"""Ports of the pools that run here: pool n answers on `first` + 2n, its router's admin endpoint one above."""

from collections.abc import Sequence

from kvpool_operator.cluster.local.addresses import is_free
from kvpool_operator.cluster.local.door import DOOR_ADDRESS

from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.up.options import HIGHEST_PORT


def require_free(first: int, pools: Sequence[str]) -> None:
    """Raises UserError for the first port that another program has, with the `--port` to take instead."""
    for number, pool in enumerate(pools):
        for port in (first + 2 * number, first + 2 * number + 1):
            if not is_free(DOOR_ADDRESS, port):
                raise UserError(
                    f"port {port} on {DOOR_ADDRESS}, which pool {pool} needs, is in use by another program; "
                    f"stop it, or take free ports with --port {first_free(first + 2, 2 * len(pools))}",
                    exit_code=FAILED,
                )


def first_free(start: int, count: int) -> int:
    """The first of `count` free ports in a row, `start` or above. Raises UserError where there are none."""
    for first in range(start, HIGHEST_PORT, 2):
        if all(is_free(DOOR_ADDRESS, first + offset) for offset in range(count)):
            return first
    raise UserError(
        f"no {count} free ports in a row between {start} and {HIGHEST_PORT}; stop what uses them", exit_code=FAILED
    )
