"""The cache under pressure, event for event beside a run of vLLM 0.32.0 with 260 blocks of 32 tokens."""

import json
from array import array
from pathlib import Path

import pytest
from kvpool_sim.core.blocks import BlockPool
from kvpool_sim.core.engine import EngineCore, Limits
from kvpool_sim.core.events import AllBlocksCleared, BlockRemoved, BlockStored
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.core.timing import DEFAULT_ROW

RECORDED = json.loads((Path(__file__).parent / "evictions_vllm_0_32_0.json").read_text())
"""Batches of events; blocks are numbered as they first appear: ["stored", first, last, parent], ["removed", block]."""

TALK, OTHER_TALK, PLAIN, SALTED = range(10_000, 14_000, 1_000)
REUSED_BY_OTHER_TALK = 384


def prompt(kind: int, length: int) -> array:
    return array("I", range(kind, kind + length))


def asked() -> list[tuple[EngineRequest, int]]:
    """The requests of the recorded run with the cached tokens that vLLM told (their texts do not matter, who shares
    what does)."""
    talk = prompt(TALK, 424)
    other = talk[:REUSED_BY_OTHER_TALK] + prompt(OTHER_TALK, 426 - REUSED_BY_OTHER_TALK)
    told = [(talk, 8, None, 0), (other, 8, None, 384), (talk[:], 8, None, 416), (prompt(PLAIN, 402), 8, None, 0)]
    told.append((prompt(SALTED, 200), 2, "tenant-a", 0))
    told += [(prompt(20_000 + 3_000 * filler, 2_000), 1, None, 0) for filler in range(6)]
    return [(EngineRequest(ids, len(ids), output, salt=salt), cached) for ids, output, salt, cached in told]


class Numbered:
    """Events with blocks numbered as they first appear."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def __call__(self, event) -> list:
        match event:
            case BlockStored():
                numbers = [self._number(value) for value in event.hashes]
                assert numbers == list(range(numbers[0], numbers[-1] + 1))
                parent = None if event.parent is None else self._number(event.parent)
                return ["stored", numbers[0], numbers[-1], parent]
            case BlockRemoved():
                return ["removed", *map(self._number, event.hashes)]
            case AllBlocksCleared():
                return ["cleared"]

    def _number(self, value: int) -> int:
        return self._numbers.setdefault(value, len(self._numbers))


def run(core: EngineCore, request: EngineRequest, numbered: Numbered) -> list[list]:
    """The batches that one request causes."""
    core.submit(request)
    batches = []
    while (step := core.schedule()) is not None:
        core.complete(step)
        events = core.take_events()
        if events:
            batches.append([numbered(event) for event in events])
    return batches


@pytest.fixture
def core():
    return EngineCore(DEFAULT_ROW, BlockPool(260, 32), Limits(8192, 256, 8192), lambda request: 7)


def test_the_same_requests_have_the_same_hits_evictions_and_batches_as_in_vllm(core):
    numbered, seen, cached = Numbered(), [], []
    requests = asked()
    for request, _ in requests:
        seen += run(core, request, numbered)
        cached.append(request.cached_tokens)
    assert core.pool.reset()
    again = EngineRequest(prompt(PLAIN, 402), 402, 8)
    seen += run(core, again, numbered)
    assert cached == [told for _, told in requests]
    assert again.cached_tokens == 0
    assert seen == RECORDED
