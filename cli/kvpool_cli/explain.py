"""`kvpool explain`: why requests went where they went, from what the pool's routers remember of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from kvpool_api.wire import Decision

from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.explain_table import explained
from kvpool_cli.found import Found, FoundPool
from kvpool_cli.places import Place
from kvpool_cli.render import console

MOST_DECISIONS = 10_000
ANSWER_IDS = ("chatcmpl-", "cmpl-")
"""How vLLM begins the `id` in an answer's body; the request's id follows."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request by its id (or how that begins), or the last few of a pool."""

    request: str | None
    pool: str | None
    last: int
    as_json: bool = False


def explain(asked: Asked, place: Place) -> int:
    """Prints the decisions. Raises UserError: no such request, no router that answers."""
    found = asyncio.run(place(asked.pool, asked.last if asked.request is None else MOST_DECISIONS))
    told = [(pool, _chosen(pool, asked)) for pool in found.pools]
    if not any(decisions for _, decisions in told):
        raise UserError(_nothing(found, asked), exit_code=FAILED)
    if asked.as_json:
        answers = [d.model_dump(mode="json", by_alias=True) for _, decisions in told for d in decisions]
        console().print_json(data=answers)
        return 0
    out = console()
    for pool, decisions in told:
        if decisions:
            title, whole = found.title(pool), asked.request is not None
            out.print(*explained(pool.pool.metadata.name, decisions, whole=whole, title=title), sep="\n")
    return 0


def _chosen(pool: FoundPool, asked: Asked) -> Sequence[Decision]:
    decisions = pool.facts.decisions
    if asked.request is None:
        return decisions[: asked.last]
    names = {asked.request, *(asked.request.removeprefix(kind) for kind in ANSWER_IDS)}
    exact = [decision for decision in decisions if decision.request_id in names]
    return exact or [decision for decision in decisions if decision.request_id.startswith(tuple(names))]


def _nothing(found: Found, asked: Asked) -> str:
    names = ", ".join(map(found.title, found.pools))
    if troubles := [pool.facts.trouble for pool in found.pools if pool.facts.trouble and pool.facts.state is None]:
        return "; ".join(troubles)
    if asked.request is None:
        return f"the routers of {names} have placed no request since they started"
    kept = sum(len(pool.facts.decisions) for pool in found.pools)
    return (
        f"no request {asked.request} is among the {kept} that the routers of {names} remember; "
        "its id is the header x-request-id of its answer (vLLM's `id` ends with it), and the oldest are forgotten first"
    )
