"""Answers that are no streams, retries, circuits and places."""

import io
import json
from array import array
from dataclasses import replace

import pytest
from door_world import MODEL, SentPrefixes, door, worker
from kvpool_api.spec import Strategy
from kvpool_api.wire import UntokenizedCause
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.siblings.deeds import Done
from kvpool_router.workers import WorkerId
from tiny_engine import USAGE, Seen, TinyEngine, answers, dies, streams

ANSWER = {"id": "x", "choices": [{"text": "hi"}], "usage": USAGE}


def plain(**fields: object) -> dict[str, object]:
    return {"model": MODEL, "prompt": list(range(32)), **fields}


async def test_a_body_passes_unchanged_with_its_length_and_its_usage_is_booked() -> None:
    async with TinyEngine(answers(ANSWER, headers={"x-own": "kept"})) as engine, door([engine]) as world:
        async with world.client.post(world.url + "/v1/completions", json=plain()) as answer:
            assert json.loads(await answer.read()) == ANSWER
            assert answer.headers["x-own"] == "kept"
            assert int(answer.headers["content-length"]) == len(json.dumps(ANSWER))
        (record,) = await world.finished()
        assert record.usage is not None
        assert record.usage.cached_tokens == 16
        assert record.ttft_s is None


async def test_a_body_that_breaks_off_is_asked_for_again_elsewhere() -> None:
    async with TinyEngine(dies()) as dead, TinyEngine(answers(ANSWER)) as alive, door([dead, alive]) as world:
        for _ in range(2):
            assert (await world.post("/v1/completions", plain()))[0] == 200
        assert {retried.pod for retried, _ in world.noted.retries} == {"e0"}
        assert max(record.attempts for record in world.noted.records) == 2


@pytest.mark.parametrize("status", [502, 503])
async def test_an_engine_that_is_unavailable_is_passed_over(status: int) -> None:
    async with TinyEngine(answers({}, status)) as ill, TinyEngine(answers(ANSWER)) as well, door([ill, well]) as world:
        for _ in range(2):
            assert (await world.post("/v1/completions", plain()))[0] == 200
        assert len(well.seen) == 2


async def test_an_engines_own_error_is_not_retried() -> None:
    async with TinyEngine(answers({"error": {}}, 500)) as ill, TinyEngine() as well, door([well, ill]) as world:
        assert (await world.post("/v1/completions", plain()))[0] == 500
        assert well.seen == []
        (record,) = await world.finished()
        assert record.outcome == "500"


async def test_after_repeated_failures_a_worker_is_left_alone_then_tried_again() -> None:
    now = 0.0
    ill = TinyEngine(answers({}, 503))
    async with ill, TinyEngine(answers(ANSWER)) as well, door([ill, well], clock=lambda: now) as world:
        for _ in range(8):
            await world.post("/v1/completions", plain())
        assert len(ill.seen) == 3
        assert world.deps.breaker.is_open(WorkerId("e0", 0))
        ill.respond = answers(ANSWER)
        now = 2.0
        for _ in range(2):
            await world.post("/v1/completions", plain())
        assert len(ill.seen) == 4
        assert not world.deps.breaker.is_open(WorkerId("e0", 0))


async def test_a_draining_worker_gets_nothing_new() -> None:
    async with TinyEngine(answers(ANSWER)) as one, TinyEngine(answers(ANSWER)) as other, door([one, other]) as world:
        before = world.deps.roster.workers
        world.deps.roster.replace((replace(before[0], draining=True), before[1]))
        for _ in range(3):
            await world.post("/v1/completions", plain())
        assert one.seen == []


async def test_a_prompt_returns_to_the_worker_that_was_sent_it() -> None:
    cache = SentPrefixes()
    one, other = TinyEngine(), TinyEngine()
    async with one, other, door([one, other], strategy=Strategy.CACHE_AWARE, cache=cache) as world:
        for _ in range(4):
            await world.post("/v1/completions", plain(prompt=list(range(2000)), stream=True))
        assert sorted((len(one.seen), len(other.seen))) == [0, 4]
        record = (await world.finished(4))[-1]
        assert record.predicted_cached_tokens == 2000
        assert record.choice is not None
        parts = ["decode", "imposed", "load", "own", "queued"]
        assert [sorted(cost.parts()) for cost in record.choice.costs] == [parts] * 2


@pytest.mark.parametrize("status", [400, 500])
async def test_what_an_engine_refused_is_not_expected_there(status: int) -> None:
    cache = CacheMap(16, 60.0, 4096)
    body = plain(prompt=[1] * 32 + [2])
    async with TinyEngine(answers({"error": {}}, status)) as one, door([one], cache=cache) as world:
        with world.deps.outbox.listening() as sibling:
            sibling.drawn()
            for _ in range(2):
                assert (await world.post("/v1/completions", body))[0] == status
            assert [record.predicted_cached_tokens for record in await world.finished(2)] == [0, 0]
            one.respond = answers(ANSWER)
            for _ in range(2):
                await world.post("/v1/completions", body)
            assert [record.predicted_cached_tokens for record in await world.finished(4)] == [0, 0, 0, 32]
            done = [deed.computed for deed in sibling.drawn() if isinstance(deed, Done)]
    assert done == [False, False, True, True]


async def test_what_an_engine_died_of_is_expected_only_where_it_was_answered() -> None:
    cache = CacheMap(16, 60.0, 4096)
    body = plain(prompt=[1] * 32 + [2])
    dead, alive = TinyEngine(dies()), TinyEngine(answers(ANSWER))
    async with dead, alive, door([dead, alive], cache=cache) as world:
        for _ in range(2):
            assert (await world.post("/v1/completions", body))[0] == 200
        held = cache.match(array("I", [1] * 32 + [2]).tobytes(), Namespace(), world.deps.clock())
    assert {worker.pod: each.predicted_tokens for worker, each in held.items() if each.predicted_tokens} == {"e1": 32}


async def test_a_batch_is_placed_once_by_all_its_prompts() -> None:
    cache = SentPrefixes()
    async with TinyEngine(answers(ANSWER)) as one, door([one], strategy=Strategy.CACHE_AWARE, cache=cache) as world:
        for _ in range(2):
            await world.post("/v1/completions", plain(prompt=[[1] * 32, [2] * 16]))
        first, second = await world.finished(2)
        assert (first.prompt_tokens, second.predicted_cached_tokens) == (48, 48)
        assert len(one.seen) == 2
        assert second.usage is not None
        assert second.usage.cached_tokens is None, "vLLM tells those of one prompt only"


async def test_a_worker_that_reads_prompts_otherwise_gets_no_credit_for_what_it_was_sent() -> None:
    misread: set[WorkerId] = set()
    changes = {"strategy": Strategy.CACHE_AWARE, "cache": SentPrefixes(), "misread": lambda: misread}
    async with TinyEngine(answers(ANSWER)) as one, door([one], **changes) as world:
        for _ in range(2):
            await world.post("/v1/completions", plain(prompt=[1] * 32))
        misread.add(WorkerId("e0", 0))
        await world.post("/v1/completions", plain(prompt=[1] * 32))
        assert [each.predicted_cached_tokens for each in await world.finished(3)] == [0, 32, 0]


async def test_text_without_a_tokenizer_is_placed_by_load_and_counted() -> None:
    async with TinyEngine(answers(ANSWER)) as one, door([one]) as world:
        assert (await world.post("/v1/completions", plain(prompt="some text")))[0] == 200
        (record,) = await world.finished()
        assert record.prompt_tokens is record.predicted_cached_tokens is None
        assert record.reason == "placed by load: the router has no tokenizer"
        assert world.noted.opaque_prompts == [("/v1/completions", UntokenizedCause.NO_TOKENIZER)]


async def test_the_ranks_of_one_pod_are_named_to_their_engine() -> None:
    async with TinyEngine(answers(ANSWER)) as engine:
        ranks = [worker("e", engine.url, rank=rank) for rank in (0, 1)]
        async with door(ranks) as world:
            for _ in range(2):
                await world.post("/v1/completions", plain())
    assert {each.headers["x-data-parallel-rank"] for each in engine.seen} == {"0", "1"}


async def test_headers_of_the_connection_stay_on_their_side() -> None:
    async with TinyEngine(answers(ANSWER)) as engine, door([engine]) as world:
        await world.post("/v1/completions", plain(), **{"TE": "trailers", "Accept-Encoding": "gzip", "X-Kept": "1"})
        (seen,) = engine.seen
        assert isinstance(seen, Seen)
        assert seen.headers["x-kept"] == "1"
        assert not {"te", "accept-encoding"} & seen.headers.keys()


async def test_a_large_body_reaches_the_engine_whole() -> None:
    prompt = list(range(1 << 18))
    async with TinyEngine(answers(ANSWER)) as engine, door([engine], max_body_bytes=1 << 24) as world:
        body = io.BytesIO(json.dumps(plain(prompt=prompt)).encode())
        async with world.client.post(world.url + "/v1/completions", data=body) as answer:
            assert answer.status == 200
        assert json.loads(engine.seen[0].body)["prompt"] == prompt


async def test_an_anthropic_stream_keeps_its_events_and_gives_its_usage() -> None:
    events = [
        b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":32,'
        b'"output_tokens":0}}}\n\n',
        b'event: message_delta\ndata: {"type":"message_delta","usage":{"input_tokens":16,"output_tokens":3,'
        b'"cache_read_input_tokens":16}}\n\n',
        b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    ]
    body = {"model": MODEL, "stream": True, "max_tokens": 3, "messages": [{"role": "user", "content": "hi"}]}
    async with TinyEngine(streams(events)) as engine, door([engine]) as world:
        assert (await world.post("/v1/messages", body))[1] == b"".join(events)
        (record,) = await world.finished()
        assert record.usage == (32, 3, 16)
