"""`kvpool status`: how pools are doing and why, on this machine or in a cluster."""

import asyncio
from collections.abc import Sequence

from pydantic import TypeAdapter

from kvpool_cli.found import Found
from kvpool_cli.places import Place
from kvpool_cli.render import console, status_report
from kvpool_cli.router_facts import LAST_DECISIONS
from kvpool_cli.view import PoolView, view

READY, NOT_READY = 0, 1


def status(pool: str | None, place: Place, *, as_json: bool = False) -> int:
    """Prints each pool, or the one named. Exit code 0 when all are ready, 1 when one is not.

    Raises UserError (exit code 2) when there is none.
    """
    found = asyncio.run(place(pool, LAST_DECISIONS))
    views = [view(each.pool, each.facts, each.pods, each.url) for each in found.pools]
    if as_json:
        print_json(views, found)
    else:
        print_reports(views, found)
    return READY if all(each.ready for each in views) else NOT_READY


def print_reports(views: Sequence[PoolView], found: Found) -> None:
    out = console()
    for shown, told in zip(views, found.pools, strict=True):
        notes = [note for note in told.notes if note not in shown.causes]
        out.print(*status_report(shown, found.title(told)), *notes, sep="\n")
    for note in found.notes:
        out.print(note, soft_wrap=True, highlight=False, markup=False)


def print_json(views: Sequence[PoolView], found: Found) -> None:
    """One array, a pool an object: the view's fields (conditions in the API's own shape), `namespace` and `notes`."""
    answers = [
        {
            "namespace": told.pool.metadata.namespace,
            **_JSON.dump_python(shown, mode="json", by_alias=True),
            "notes": told.notes,
        }
        for shown, told in zip(views, found.pools, strict=True)
    ]
    console().print_json(data=answers)


_JSON = TypeAdapter(PoolView)
