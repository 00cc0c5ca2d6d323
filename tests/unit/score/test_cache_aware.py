"""The social cost: what it prefers, and that it never prefers more work."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from kvpool_router.calibration import PRIOR
from kvpool_router.score.cache_aware import CacheAware
from kvpool_router.score.protocol import RequestView, WorkerView
from placement_world import Pool, tokens, view

TOKENS = 4096
SECONDS = st.floats(0, 100)
COUNTS = st.integers(0, 300)


@st.composite
def workers(draw: st.DrawFn, name: str = "w") -> WorkerView:
    held = draw(st.integers(0, TOKENS - 1))
    return view(
        name,
        held=held,
        history=draw(st.integers(held, TOKENS - 1)),
        queued=draw(COUNTS),
        queued_tokens=draw(st.integers(0, 100_000)),
        queued_s=draw(SECONDS),
        running=draw(COUNTS),
        context=draw(st.integers(0, 1_000_000)),
        last_sent=draw(SECONDS),
    )


def pick(*pool: WorkerView, prompt: int = TOKENS, seed: int = 0) -> str:
    return pool[CacheAware(seed)(RequestView(prompt), pool, 0.0).position].id.pod


def cost(worker: WorkerView, *others: WorkerView, prompt: int = TOKENS) -> float:
    return CacheAware()(RequestView(prompt), (worker, *others), 0.0).costs[0].total_s


@given(workers(), workers("other"), st.floats(0.001, 100))
def test_cost_grows_with_the_queue(worker: WorkerView, other: WorkerView, more: float) -> None:
    longer = worker._replace(load=worker.load._replace(queued_s=worker.load.queued_s + more))
    assert cost(longer, other) > cost(worker, other)


@given(workers(), workers("other"), st.data())
def test_cost_falls_with_what_is_held(worker: WorkerView, other: WorkerView, data: st.DataObject) -> None:
    held = data.draw(st.integers(worker.predicted_tokens, TOKENS - 1))
    warmer = worker._replace(
        predicted_tokens=held, reachable_tokens=held, history_tokens=max(held, worker.history_tokens)
    )
    assert cost(warmer, other) <= cost(worker, other) + 1e-12


@given(workers(), workers("other"), st.integers(1, 1_000_000))
def test_cost_grows_with_the_decode_load(worker: WorkerView, other: WorkerView, more: int) -> None:
    load = worker.load._replace(running=worker.load.running + 1)
    busier = worker._replace(load=load._replace(context_tokens=load.context_tokens + more))
    assert cost(busier, other) > cost(worker, other)


@given(st.lists(workers(), min_size=1, max_size=8), st.integers(0, TOKENS))
def test_the_choice_is_within_tolerance_of_the_least_cost_and_parts_add_up(pool: list[WorkerView], prompt: int) -> None:
    pool = [each._replace(predicted_tokens=0, reachable_tokens=0, history_tokens=0) for each in pool]
    choice = CacheAware()(RequestView(prompt), pool, 0.0)
    least = min(each.total_s for each in choice.costs)
    assert choice.costs[choice.position].total_s <= least * 1.02
    for each in choice.costs:
        assert abs(sum(each.parts().values()) - each.total_s) < 1e-9


@given(st.lists(workers(), min_size=1, max_size=8), st.integers(0, 2**32))
def test_one_seed_always_gives_one_choice(pool: list[WorkerView], seed: int) -> None:
    view_of = RequestView(TOKENS)
    assert CacheAware(seed)(view_of, pool, 0.0) == CacheAware(seed)(view_of, pool, 0.0)


def test_an_idle_worker_that_holds_the_prompt_beats_one_that_does_not() -> None:
    assert pick(view("cold"), view("warm", held=4000)) == "warm"
    assert pick(view("predicted", held=4000, cached=0), view("cold")) == "predicted"


@given(workers(), workers("other"), st.data())
def test_what_must_be_loaded_costs_more_than_what_is_on_the_gpu_and_less_than_computing(
    worker: WorkerView, other: WorkerView, data: st.DataObject
) -> None:
    reach = data.draw(st.integers(worker.predicted_tokens, TOKENS - 1))
    loaded = reach - worker.predicted_tokens
    on_gpu = worker._replace(predicted_tokens=reach, reachable_tokens=reach)
    below = worker._replace(reachable_tokens=reach, load_s=loaded * 0.5 * PRIOR.token_s)
    assert cost(on_gpu, other) <= cost(below, other) + 1e-12
    assert cost(below, other) <= cost(worker, other) + 1e-12
    parts = CacheAware()(RequestView(TOKENS), (below, other), 0.0).costs[0].parts()
    assert parts["load"] in (0.0, below.load_s)


def test_of_idle_workers_the_gpu_comes_first_then_main_memory_then_nothing() -> None:
    cold, below = view("cold"), view("below", reachable=4000, load_s=0.02)
    assert pick(cold, below) == "below"
    assert pick(below, view("gpu", held=4000)) == "gpu"


def test_where_loading_takes_longer_than_computing_the_idle_stranger_is_cheaper() -> None:
    assert pick(view("cold"), view("below", reachable=4000, load_s=10.0)) == "cold"


def test_a_queue_that_is_long_enough_beats_warmth() -> None:
    own_s = PRIOR.prefill_s(TOKENS, 0)
    assert pick(view("cold"), view("warm", held=4000, queued=1, queued_s=0.3 * own_s)) == "warm"
    assert pick(view("cold"), view("warm", held=4000, queued=9, queued_s=20 * own_s)) == "cold"


def test_under_load_a_prefix_stays_where_it_belonged() -> None:
    crowd = {"queued": 8, "queued_s": 1.0, "queued_tokens": 20_000}
    stranger, home = view("stranger", **crowd), view("home", history=4000, **crowd)  # type: ignore[arg-type]
    assert pick(stranger, home) == "home"
    assert pick(view("stranger", last_sent=0.0), view("home", history=4000, last_sent=1.0)) == "stranger"


def test_a_faster_worker_is_preferred_to_its_slower_like() -> None:
    slow = PRIOR._replace(token_s=4 * PRIOR.token_s)
    assert pick(view("slow", rates=slow), view("fast")) == "fast"


def test_siblings_of_a_burst_follow_the_first() -> None:
    pool = Pool(4)
    shared = tuple(range(6000))
    tickets = [pool.send(tokens(*shared, 10_000 + n, *range(100))) for n in range(3)]
    assert len({each.worker for each in tickets}) == 1


def test_a_burst_of_siblings_too_large_for_one_worker_spreads() -> None:
    pool = Pool(4)
    tickets = [pool.send(tokens(*range(200), *(10_000 * n + i for i in range(4000)))) for n in range(1, 17)]
    assert len({each.worker for each in tickets}) == 4


def test_families_one_at_a_time_spread_over_idle_workers_and_stay() -> None:
    pool = Pool(4)
    system = tuple(range(90_000, 90_032))
    homes: dict[int, set[str]] = {}
    sent: Counter[str] = Counter()
    for turn in range(4):
        for family in range(16):
            ids = (*system, *range(1000 * family, 1000 * family + 900), 50_000 + turn, *range(100))
            ticket = pool.send(tokens(*ids))
            pool.answer(ticket)
            homes.setdefault(family, set()).add(ticket.worker.pod)
            sent[ticket.worker.pod] += 1
    assert all(len(home) == 1 for home in homes.values())
    assert len(sent) * max(sent.values()) / sum(sent.values()) <= 1.5


def test_while_nobody_waits_a_system_prompt_that_all_share_does_not_draw_all_traffic() -> None:
    assert pick(view("idle", last_sent=0.0), view("used", held=TOKENS // 10, last_sent=1.0)) == "idle"
    assert pick(view("idle", last_sent=0.0), view("used", held=TOKENS // 4, last_sent=1.0)) == "used"


def test_under_load_small_hits_count() -> None:
    crowd = {"queued": 8, "queued_s": 0.1, "queued_tokens": 2000}
    other, holder = view("other", **crowd), view("holder", held=TOKENS // 10, last_sent=1.0, **crowd)  # type: ignore[arg-type]
    assert pick(other, holder) == "holder"


def test_while_nobody_waits_a_small_hit_below_the_gpu_costs_no_load_either() -> None:
    below = view("below", reachable=TOKENS // 10, load_s=5.0)
    (cost,) = CacheAware()(RequestView(TOKENS), (below,), 0.0).costs
    assert (cost.load_s, cost.own_s) == (0.0, PRIOR.overhead_s + PRIOR.prefill_s(TOKENS, 0))
