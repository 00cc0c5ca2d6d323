"""Continuous batching with chunked prefill, one step at a time (vLLM's v1 scheduler, 0.32, reduced to what shows).

    schedule() -> Step: who computes how many tokens, and how long that takes
    complete(step) -> who got a token; blocks of those that ended are free

The caller lets the step's time pass in between, in real time or in jumps.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from kvpool_sim.core.blocks import BlockPool, Hash, chained
from kvpool_sim.core.cpu_tier import CpuTier
from kvpool_sim.core.events import KvEvent
from kvpool_sim.core.request import EngineRequest, FinishReason
from kvpool_sim.core.timing import SCALE, STEP_OVERHEAD_MS, Timing

_IDLE_STEP_S = SCALE * STEP_OVERHEAD_MS * 1e-3
"""While nothing can be computed vLLM looks for ended loads, and new requests, about so often."""
NextToken = Callable[[EngineRequest], int]
"""The model: the next output token of a request, from nothing but its prompt and position."""


@dataclass(frozen=True, slots=True)
class Limits:
    """vLLM's scheduler limits, by its own names."""

    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    max_model_len: int = 131_072


@dataclass(slots=True)
class Step:
    """One forward pass."""

    duration_s: float
    computed: list[tuple[EngineRequest, int]]
    """Each request with the tokens it computes; none where the engine only waits for blocks from main memory."""


@dataclass(frozen=True, slots=True)
class _Load:
    """Blocks of one request on their way from main memory."""

    request: EngineRequest
    hashes: list[Hash]
    ends_s: float


@dataclass(slots=True)
class Totals:
    """Counters since the start, in tokens and requests."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    loaded_tokens: int = 0
    """Those of the cached ones that came from main memory."""
    load_s: float = 0.0
    generation_tokens: int = 0
    preemptions: int = 0
    steps: int = 0
    finished: dict[FinishReason, int] = field(default_factory=lambda: {"stop": 0, "length": 0, "abort": 0})


class EngineCore:
    """One engine, one DP rank."""

    def __init__(
        self, timing: Timing, blocks: BlockPool, limits: Limits, next_token: NextToken, below: CpuTier | None = None
    ) -> None:
        self._timing = timing
        self._pool = blocks
        self._limits = limits
        self._next_token = next_token
        self._below = below or CpuTier(0)
        self._loads: deque[_Load] = deque()
        """In the order in which they end: one after another over the same link."""
        self._loaded: deque[EngineRequest] = deque()
        """They hold their blocks, so they go before those that wait for some."""
        self._now_s = 0.0
        """The sum of all steps: what loads are timed by."""
        self._waiting: deque[EngineRequest] = deque()
        self._running: list[EngineRequest] = []
        self.totals = Totals()

    @property
    def waiting(self) -> int:
        return len(self._waiting) + len(self._loads) + len(self._loaded)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def pool(self) -> BlockPool:
        return self._pool

    def submit(self, request: EngineRequest) -> None:
        """Queues a prompt. It must fit: its length and the cache were checked before."""
        self._waiting.append(request)

    def abort(self, request: EngineRequest) -> None:
        """Ends a request at once, wherever it is."""
        if request.finished is not None:
            return
        if request in self._running:
            self._running.remove(request)
        elif request in self._loaded:
            self._loaded.remove(request)
        elif not request.loading:
            self._waiting.remove(request)
        self._finish(request, "abort")

    def take_events(self) -> list[KvEvent]:
        """What happened since the last call: like vLLM, on the GPU first, then below it."""
        return self._pool.take_events() + self._below.take_events()

    def schedule(self) -> Step | None:
        """The next step, or None when there is nothing to do."""
        step = Step(0.0, [])
        preemptions = self.totals.preemptions
        budget = self._schedule_running(step, self._limits.max_num_batched_tokens)
        if self.totals.preemptions == preemptions or not step.computed:
            self._schedule_waiting(step, self._schedule_loaded(step, budget))
        if step.computed:
            step.duration_s = self._duration(step)
        elif self._loads:
            step.duration_s = min(_IDLE_STEP_S, max(0.0, self._loads[0].ends_s - self._now_s))
        else:
            return None
        return step

    def complete(self, step: Step) -> list[EngineRequest]:
        """Applies a step whose time has passed; returns the requests that got a token, ended ones included."""
        self.totals.steps += 1
        self._now_s += step.duration_s
        served = []
        for request, count in step.computed:
            if request.finished is not None:
                continue
            request.computed += count
            self._offload(request)
            if request.computed == len(request.tokens):
                self._emit(request)
                served.append(request)
        self._running = [request for request in self._running if request.finished is None]
        self._end_loads()
        return served

    def _schedule_running(self, step: Step, budget: int) -> int:
        place = 0
        while place < len(self._running) and budget > 0:
            request = self._running[place]
            count = min(len(request.tokens) - request.computed, budget)
            while not self._make_room(request, count):
                if self._preempt_last() is request:
                    return budget
            step.computed.append((request, count))
            budget -= count
            place += 1
        return budget

    def _schedule_loaded(self, step: Step, budget: int) -> int:
        while self._loaded and budget > 0 and len(self._running) < self._limits.max_num_seqs:
            request = self._loaded.popleft()
            count = min(len(request.tokens) - request.computed, budget)
            self._store(request, request.computed + count)
            self._running.append(request)
            step.computed.append((request, count))
            budget -= count
        return budget

    def _schedule_waiting(self, step: Step, budget: int) -> None:
        place = 0
        while place < len(self._waiting) and budget > 0 and len(self._running) < self._limits.max_num_seqs:
            request = self._waiting[place]
            self._hash(request)
            if self._loads and self._wants_what_is_being_loaded(request):
                place += 1
                continue
            count = self._admit(request, budget)
            if not count and not request.loading:
                return
            del self._waiting[place]
            if count:
                self._running.append(request)
                step.computed.append((request, count))
                budget -= count

    def _admit(self, request: EngineRequest, budget: int) -> int:
        """Reuses what is cached and takes blocks for the first chunk; the chunk's tokens.

        0 if blocks are short, or if it begins to load. Like vLLM (`scheduler_reserve_full_isl`): only where the whole
        prompt would fit, not just its first chunk. What loads takes blocks for its whole prompt, which vLLM reserves.
        """
        size = self._pool.block_tokens
        reused = self._pool.lookup(request.hashes[: (len(request.tokens) - 1) // size])
        below = self._loadable(request, len(reused))
        cached = (len(reused) + len(below)) * size
        count = 0 if below else min(len(request.tokens) - cached, budget)
        whole = -(-len(request.tokens) // size)
        first = whole if below else -(-(cached + count) // size)
        taken = self._pool.take(reused, first - len(reused), later=whole - first)
        if taken is None:
            return 0
        request.blocks = reused + taken
        request.computed = cached
        request.stored = len(reused)
        self._count(request, cached, len(below) * size)
        if below:
            self._begin_load(request, below)
        else:
            self._store(request, cached + count)
        return count

    def _count(self, request: EngineRequest, cached: int, loaded: int) -> None:
        if request.cached_tokens is None:
            request.cached_tokens = cached
            self.totals.prompt_tokens += request.prompt_tokens
            self.totals.cached_tokens += cached
            self.totals.loaded_tokens += loaded

    def _loadable(self, request: EngineRequest, reused: int) -> list[Hash]:
        """What main memory has of the prompt right after the blocks that are reused, its very last one included."""
        rest = request.hashes[reused:]
        return rest[: self._below.lookup(rest)]

    def _wants_what_is_being_loaded(self, request: EngineRequest) -> bool:
        """Like vLLM, it then waits for the other's load, to find the blocks on the GPU."""
        wanted = set(self._loadable(request, len(self._pool.lookup(request.hashes))))
        return any(not wanted.isdisjoint(load.hashes) for load in self._loads)

    def _begin_load(self, request: EngineRequest, hashes: list[Hash]) -> None:
        self._below.begin_load(hashes)
        took_s = self._timing.load_token_s * len(hashes) * self._pool.block_tokens
        self.totals.load_s += took_s
        begins_s = max(self._now_s, self._loads[-1].ends_s if self._loads else 0.0)
        self._loads.append(_Load(request, hashes, begins_s + took_s))
        request.loading = True
        request.offered_from = request.stored
        request.offered = request.stored + len(hashes)

    def _end_loads(self) -> None:
        """What is loaded is on the GPU like any other block; only a last block's last token is computed again."""
        while self._loads and self._loads[0].ends_s <= self._now_s:
            load = self._loads.popleft()
            request = load.request
            self._below.end_load(load.hashes)
            request.loading = False
            if request.finished is not None:
                self._pool.release(request.blocks)
                request.blocks = []
                continue
            self._store(request, request.computed)
            request.computed = min(request.computed, len(request.tokens) - 1)
            self._loaded.append(request)

    def _offload(self, request: EngineRequest) -> None:
        """Copies the prompt's blocks that are computed now to main memory; what finds no room is offered again."""
        full = min(request.computed, request.prompt_tokens) // self._pool.block_tokens
        if full > request.offered and self._below.store(request.hashes[request.offered : full]):
            request.offered = full

    def _make_room(self, request: EngineRequest, count: int) -> bool:
        missing = -(-(request.computed + count) // self._pool.block_tokens) - len(request.blocks)
        if missing > 0:
            taken = self._pool.take((), missing)
            if taken is None:
                return False
            request.blocks += taken
        self._store(request, request.computed + count)
        return True

    def _store(self, request: EngineRequest, tokens: int) -> None:
        """Offers blocks that this step fills. Like vLLM: when they are scheduled, not when they are computed."""
        size = self._pool.block_tokens
        full, begun = tokens // size, request.stored
        if full <= begun:
            return
        self._hash(request)
        parent = request.hashes[begun - 1] if begun else None
        self._pool.store(
            request.blocks[begun:full],
            request.hashes[begun:full],
            parent,
            request.tokens[begun * size : full * size],
            request.salt,
            request.adapter,
        )
        request.stored = full

    def _hash(self, request: EngineRequest) -> None:
        if len(request.hashes) < len(request.tokens) // self._pool.block_tokens:
            chained(request.tokens, self._pool.block_tokens, request.hashes, request.salt, request.adapter)

    def _preempt_last(self) -> EngineRequest:
        """The youngest request gives its blocks back and starts over later."""
        victim = self._running.pop()
        self._pool.release(victim.blocks)
        victim.blocks, victim.computed, victim.stored = [], 0, 0
        self._waiting.appendleft(victim)
        self.totals.preemptions += 1
        return victim

    def _duration(self, step: Step) -> float:
        prefill_s, sequences, context = 0.0, 0, 0
        for request, count in step.computed:
            if request.decoding:
                sequences += 1
                context += request.computed
            else:
                prefill_s += self._timing.prefill_s(count, request.computed)
        return self._timing.step_s(prefill_s, sequences, context)

    def _emit(self, request: EngineRequest) -> None:
        request.tokens.append(self._next_token(request))
        self.totals.generation_tokens += 1
        outputs = request.output_tokens
        if request.stop_after is not None and outputs >= request.stop_after:
            self._finish(request, "stop")
        elif outputs >= request.max_tokens or len(request.tokens) >= self._limits.max_model_len:
            self._finish(request, "length")

    def _finish(self, request: EngineRequest, reason: FinishReason) -> None:
        request.finished = reason
        self.totals.finished[reason] += 1
        self._below.used(request.hashes[request.offered_from : request.offered])
        if not request.loading:
            self._pool.release(request.blocks)
            request.blocks = []
