"""Round robin, least load and random do what their names say."""

from collections import Counter

import pytest
from kvpool_api.spec import Strategy
from kvpool_router.score import STRATEGIES
from kvpool_router.score.protocol import RequestView
from placement_world import view

REQUEST = RequestView(100)
FOUR = [view(f"e{n}") for n in range(4)]


def test_every_strategy_of_the_api_has_its_class() -> None:
    assert set(STRATEGIES) == set(Strategy)


def test_round_robin_takes_each_in_turn_and_survives_a_shrinking_pool() -> None:
    choose = STRATEGIES[Strategy.ROUND_ROBIN](0)
    assert Counter(choose(REQUEST, FOUR, 0.0).position for _ in range(40)) == dict.fromkeys(range(4), 10)
    assert {choose(REQUEST, FOUR[:2], 0.0).position for _ in range(10)} == {0, 1}


def test_least_load_takes_the_fewest_and_among_equals_the_longest_idle() -> None:
    choose = STRATEGIES[Strategy.LEAST_LOAD](0)
    busy, free, freer = view("a", queued=2, running=1), view("b", running=2), view("c", queued=1)
    assert choose(REQUEST, [busy, free, freer], 0.0).position == 2
    assert choose(REQUEST, [view("a", last_sent=2.0), view("b", last_sent=1.0)], 0.0).position == 1


@pytest.mark.parametrize("name", [Strategy.RANDOM, Strategy.LEAST_LOAD, Strategy.CACHE_AWARE])
def test_draws_follow_the_seed(name: Strategy) -> None:
    def draws(seed: int) -> list[int]:
        choose = STRATEGIES[name](seed)
        return [choose(REQUEST, FOUR, 0.0).position for _ in range(50)]

    assert draws(1) == draws(1) != draws(2)
    assert set(draws(1)) == {0, 1, 2, 3}
