import json

import pytest
from kvpool_api.wire import CandidateCost
from kvpool_cli.errors import UserError
from kvpool_cli.explain import Asked, explain
from kvpool_cli.found import Found, FoundPool
from kvpool_cli.router_facts import RouterFacts
from pool_facts import READY, decision, facts, pool


def candidate(pod="qwen-1-0", cost=0.02, rank=0, **told):
    parts = told.pop("parts", {"queued": cost / 2, "own": cost / 2, "decode": 0.0, "imposed": 0.0})
    known = {"cached_tokens": 64, "predicted_tokens": 80} | told
    return CandidateCost(pod=pod, dp_rank=rank, cost_s=cost, parts_s=parts, **known)


def placed(request="req-1", *candidates, **changes):
    reason = "least cost"
    told = {"request_id": request, "candidates": list(candidates), "reason": reason, "prompt_tokens": 7200}
    return decision().model_copy(update=told | changes)


@pytest.fixture
def shown(capsys):
    def shown(*decisions, request=None, last=5, as_json=False, trouble=None, state=True):
        asked_for = []

        async def place(pool_name, limit):
            asked_for.append(limit)
            told = facts().state if state else None
            return Found((FoundPool(pool(READY), {}, RouterFacts(told, tuple(decisions), trouble)),))

        assert explain(Asked(request, None, last, as_json), place) == 0
        assert asked_for == [last if request is None else 10_000]
        return capsys.readouterr().out

    return shown


def line(text, word):
    return next(each for each in text.splitlines() if word in each).split()


def test_a_request_shows_what_each_engine_would_have_cost_part_by_part_and_the_chosen_one(shown):
    text = shown(placed("req-1", candidate("qwen-1-1", 0.5, cached_tokens=0, predicted_tokens=0), candidate()))
    assert " engine cost ms = queued + own + decode + imposed cached predicted" in text
    assert line(text, "20.0") == ["→", "1-0", "20.0", "10.0", "10.0", "0.0", "0.0", "64", "80"]
    assert line(text, "500.0") == ["1-1", "500.0", "250.0", "250.0", "0.0", "0.0", "0", "0"]
    assert "req-1  /v1/completions  7,200 prompt tokens" in text
    assert "→ 1-0 by CacheAware: least cost; 1-1 was 480.0 ms dearer" in text
    assert "cached tokens: 48 expected, 50 found; TTFT 20 ms; ok" in text


def test_engines_that_would_have_cost_the_same_say_so(shown):
    assert "least cost; 1-1 would have cost the same" in shown(placed("a", candidate("qwen-1-1", 0.02), candidate()))


def test_a_table_fits_a_terminal_of_80_columns(shown):
    text = shown(placed("a", candidate("qwen-2d9f5c1a-10", 12.3456), candidate()))
    assert max(len(each) for each in text.splitlines() if "," not in each) <= 80


def test_the_cheapest_engines_are_shown_and_the_chosen_one_wherever_it_stands(shown):
    many = [candidate(f"qwen-1-{at}", at / 100) for at in range(1, 9)]
    told = placed("req-1", *many, pod="qwen-1-8")
    text = shown(told)
    assert "1-5 " in text
    assert "1-6 " not in text
    assert line(text, "80.0")[:2] == ["→", "1-8"]
    assert "and 2 more" in text
    assert "1-1 was 70.0 ms cheaper" in text
    whole = shown(told, request="req-1")
    assert "1-6 " in whole
    assert "more" not in whole


def test_a_request_is_found_by_its_id_or_how_that_begins_an_exact_one_first(shown):
    decisions = [placed("abc-2"), placed("abc"), placed("x")]
    assert shown(*decisions, request="abc").count("abc") == 1
    assert "abc-2" in shown(*decisions, request="abc-")


def test_a_request_is_found_by_the_id_in_its_answers_body_too(shown):
    decisions = [placed("abc"), placed("x"), placed("cmpl-own")]
    for given, found in {
        "chatcmpl-abc": "abc",
        "cmpl-abc": "abc",
        "cmpl-own": "cmpl-own",
        "chatcmpl-ab": "abc",
    }.items():
        assert [line.split()[2] for line in shown(*decisions, request=given).splitlines() if "/v1/" in line] == [found]


def test_only_so_many_are_shown_as_were_asked_for(shown):
    assert shown(placed("a-1"), placed("a-2"), placed("a-3"), last=2).count("a-") == 2


def test_json_is_the_routers_own_words(shown):
    (told,) = json.loads(shown(placed("a", candidate()), as_json=True))
    assert (told["requestId"], told["candidates"][0]["partsS"]["queued"]) == ("a", 0.01)


def test_what_is_not_known_is_not_made_up(shown):
    blind = placed(
        "req-1",
        prompt_tokens=None,
        predicted_cached_tokens=None,
        cached_tokens=None,
        ttft_ms=None,
        attempts=3,
        reason="",
    )
    text = shown(blind)
    assert "a prompt that could not be tokenized" in text
    assert "→ 1-0 by CacheAware\n" in text
    assert "cached tokens: - expected, - found; TTFT -; ok, 3 attempts" in text


def test_a_request_that_no_engine_took_says_why(shown):
    assert "→ no engine took it: no engine is ready" in shown(
        placed(pod=None, dp_rank=None, reason="no engine is ready")
    )
    assert "→ no engine took it: 503" in shown(placed(pod=None, dp_rank=None, reason="", outcome="503"))


def test_strategies_with_other_parts_and_ranks_are_shown_as_they_are(shown):
    text = shown(placed("a", candidate(parts={"load": 0.02}), candidate(rank=1, cost=0.3)))
    assert line(text, "20.0") == ["→", "1-0", "20.0", "20.0", "-", "-", "-", "-", "64", "80"]
    assert line(text, "300.0")[:3] == ["1-0", "rank", "1"]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "the routers of qwen have placed no request since they started"),
        ({"request": "zz"}, "no request zz is among the 0 that the routers of qwen remember"),
        ({"trouble": "router qwen-router-1 cannot be asked", "state": False}, "router qwen-router-1 cannot be asked"),
    ],
)
def test_nothing_to_tell_is_an_error_with_its_reason(shown, told, words):
    with pytest.raises(UserError, match=words) as refused:
        shown(**told)
    assert refused.value.exit_code == 1


def test_a_pool_without_requests_beside_one_with_some_is_left_out(capsys):
    async def place(pool_name, limit):
        empty = FoundPool(pool(READY), {}, facts())
        full = FoundPool(pool(READY), {}, RouterFacts(facts().state, (placed("only"),)))
        return Found((empty, full))

    assert explain(Asked(None, None, 5), place) == 0
    assert capsys.readouterr().out.count("only") == 1
