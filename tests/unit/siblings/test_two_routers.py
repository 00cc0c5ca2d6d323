"""Whole routers in this process, each on its own ports, which know each other by the file of the pool's Pods."""

import asyncio
import contextlib
import logging

import pytest
from aiohttp import web
from event_publisher import EventPublisher, stored, tokens_of
from eventually import eventually
from kvpool_api.wire import Decision, Decisions
from kvpool_router.events.marks import Mark
from kvpool_router.events.standing import Lack
from kvpool_router.siblings.frames import FrameWriter
from kvpool_router.siblings.snapshot import SNAPSHOT, WorkerPart, encoded
from kvpool_router.workers import WorkerId
from router_world import TOKEN, RouterWorld, pod_of, router_pod, running_router
from tiny_engine import TinyEngine, answers

NAMES = ("qwen-router-0", "qwen-router-1")
IDS = list(range(1, 65))


@pytest.fixture
def publishers():
    publishers = [EventPublisher(), EventPublisher()]
    yield publishers
    for publisher in publishers:
        publisher.close()


class Pool:
    """Two routers before two engines that answer once they are let."""

    def __init__(self, routers, engines, publishers):
        self.routers = routers
        self.pods = [
            pod_of(publisher, engine.port, f"qwen-{at}", uid=f"uid-{at}")
            for at, (engine, publisher) in enumerate(zip(engines, publishers, strict=True))
        ]

    def tell(self):
        routers = [router_pod(name, router) for name, router in zip(NAMES, self.routers, strict=False)]
        self.routers[0].pods(*self.pods, *routers)

    async def heard(self):
        for router in self.routers:
            state = await router.state()
            if [each.heard for each in state.siblings] != [True] * (len(self.routers) - 1) or not state.ready:
                return False
        return True


async def asked(router: RouterWorld, ids=IDS):
    body = {"model": "tiny", "prompt": ids, "max_tokens": 1}
    async with router.client.post(f"{router.front}/v1/completions", json=body) as answer:
        return answer.status, await answer.read()


async def decisions(router: RouterWorld) -> list[Decision]:
    async with router.client.get(f"{router.admin}/decisions", headers={"X-Kvpool-Token": TOKEN}) as answer:
        return Decisions.model_validate_json(await answer.read()).decisions


async def booked(router: RouterWorld) -> int:
    return sum(each.in_flight for each in (await router.state()).siblings)


async def in_flight(router: RouterWorld) -> int:
    return sum(each.in_flight for each in (await router.state()).workers)


@pytest.fixture
async def let_go():
    return asyncio.Event()


@pytest.fixture
async def pool(tmp_path, publishers, let_go):
    answer = answers({"id": "x", "choices": []})

    async def held(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.method == "POST":
            await let_go.wait()
        return await answer(request, body)

    async with contextlib.AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(TinyEngine(held)) for _ in NAMES]
        routers = [await stack.enter_async_context(running_router(tmp_path, name)) for name in NAMES]
        pool = Pool(routers, engines, publishers)
        pool.tell()
        await eventually(pool.heard)
        yield pool
        let_go.set()


async def test_what_one_sends_is_load_to_the_other_and_in_flight_only_where_it_was_sent(pool, let_go):
    one, other = pool.routers
    first = asyncio.create_task(asked(one, list(range(100, 164))))
    await eventually(lambda: booked(other))
    assert (await in_flight(one), await in_flight(other)) == (1, 0)
    second = asyncio.create_task(asked(other, list(range(200, 264))))
    await eventually(lambda: in_flight(other))
    assert (await decisions(one))[0].pod != (await decisions(other))[0].pod
    let_go.set()
    assert (await first)[0] == (await second)[0] == 200
    await eventually(lambda: nothing_booked(pool.routers))


async def nothing_booked(routers):
    return not any([await booked(router) for router in routers])


async def test_a_prompt_that_one_has_sent_is_expected_where_it_went_by_the_other(pool, let_go):
    one, other = pool.routers
    let_go.set()
    await asked(one)
    sent = (await decisions(one))[0]
    await asked(other)
    chosen = (await decisions(other))[0]
    assert (chosen.pod, chosen.predicted_cached_tokens) == (sent.pod, 48)


async def test_what_a_sibling_that_dies_had_under_way_is_booked_no_more(pool, tmp_path, let_go):
    other = pool.routers[1]
    third = contextlib.AsyncExitStack()
    dying = await third.enter_async_context(running_router(tmp_path, "qwen-router-2"))
    pool.routers[0].pods(*pool.pods, router_pod(NAMES[1], other), router_pod("qwen-router-2", dying))

    async def is_heard():
        return any(each.heard and each.router == "qwen-router-2" for each in (await other.state()).siblings)

    await eventually(is_heard)
    asking = asyncio.create_task(asked(dying))
    await eventually(lambda: booked(other))
    await third.aclose()
    await eventually(lambda: nothing_booked([other]))
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def test_bookings_are_given_to_nobody_without_the_token(pool):
    one = pool.routers[0]
    async with one.client.get(f"{one.admin}/siblings/bookings") as answer:
        assert answer.status == 401


async def state_of(router: RouterWorld, holds):
    async def held() -> bool:
        return holds(await router.state())

    await eventually(held)
    return await router.state()


def ids_of(block: int) -> list[int]:
    raw = tokens_of(block)
    return [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]


async def held_tokens(router: RouterWorld, block: int) -> int | None:
    assert (await asked(router, ids_of(block)))[0] == 200
    return (await decisions(router))[0].predicted_cached_tokens


@pytest.fixture
async def forgetful(tmp_path):
    """An engine whose replay reaches back to its last batch alone, and a router that has heard it all."""
    publisher = EventPublisher(buffer_batches=1)
    async with TinyEngine(answers({"id": "x", "choices": []})) as engine, running_router(tmp_path, NAMES[0]) as first:
        pod = pod_of(publisher, engine.port)
        first.pods(pod, router_pod(NAMES[0], first))
        await state_of(first, lambda state: any(each.synced for each in state.workers))
        publisher.publish([stored(1)], [stored(2)])
        await state_of(first, lambda state: state.workers[0].blocks == 2)
        yield first, publisher, pod
    publisher.close()


async def test_a_new_router_begins_with_a_siblings_map_and_goes_on_from_there(tmp_path, forgetful):
    first, publisher, _ = forgetful
    async with running_router(tmp_path, NAMES[1]) as second:
        state = await state_of(second, lambda state: state.ready)
        assert state.map_origin.startswith("Began with the map of qwen-router-0: 1 workers")
        assert (state.workers[0].events, state.workers[0].blocks) == ("EXACT", 2)
        publisher.publish([stored(3)])
        await state_of(second, lambda state: state.workers[0].blocks == 3)
        assert await held_tokens(second, 1) == 16
        assert (await first.state()).map_origin.endswith("no other router was there.")


async def test_a_request_that_comes_before_the_map_waits_for_it(tmp_path, forgetful):
    async with running_router(tmp_path, NAMES[1]) as second:
        statuses = set()
        async with asyncio.timeout(20):
            while not statuses & {200}:
                statuses.add((await asked(second, ids_of(1)))[0])
        assert statuses <= {200, 503}, "before it knows the pool's engines there is nobody to send to"
        placed = [each for each in await decisions(second) if each.pod is not None]
        assert {each.predicted_cached_tokens for each in placed} == {16}


async def broken(request: web.Request) -> web.StreamResponse:
    """A sibling that dies half way through its snapshot."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(FrameWriter(SNAPSHOT).frame(encoded(WorkerPart(WorkerId("qwen-abc-0", 0), MARK, 1024))))
    request.transport.close()
    return answer


MARK = Mark("uid-1", 0, 0, 0, b"digest", 1, Lack.NOTHING, False)


async def ended(request: web.Request) -> web.StreamResponse:
    """A sibling that ends its snapshot in good order, but before its last word."""
    answer = web.StreamResponse()
    await answer.prepare(request)
    await answer.write(FrameWriter(SNAPSHOT).frame(encoded(WorkerPart(WorkerId("qwen-abc-0", 0), MARK, 1024))))
    await answer.write_eof()
    return answer


@pytest.mark.parametrize("gives", [broken, ended])
async def test_a_sibling_that_dies_half_way_is_no_harm(tmp_path, forgetful, gives):
    first, _, pod = forgetful
    async with TinyEngine(lambda request, body: gives(request)) as dying:
        false = router_pod("qwen-router-9", RouterWorld("", dying.url, first.pods_file, first.client))
        first.pods(pod, false)
        async with running_router(tmp_path, NAMES[1]) as second:
            state = await state_of(second, lambda state: state.ready)
            assert state.map_origin.startswith("Began with the engines' own replay: no sibling's map could be taken (q")
            assert state.workers[0].blocks == 1


async def refusing(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": {"message": "The admin token is wrong."}}, status=401)


async def test_a_siblings_refusal_is_told_in_its_own_sentence(tmp_path, forgetful):
    first, _, pod = forgetful
    async with TinyEngine(lambda request, body: refusing(request)) as other:
        first.pods(pod, router_pod("qwen-router-9", RouterWorld("", other.url, first.pods_file, first.client)))
        async with running_router(tmp_path, NAMES[1]) as second:
            state = await state_of(second, lambda state: state.ready)
            assert "could be taken (qwen-router-9: it answered 401: The admin token is wrong)." in state.map_origin


async def beginning(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": {"message": "There is no map yet."}}, status=503)


async def between(request: web.Request) -> web.StreamResponse:
    """A proxy that reaches nobody."""
    return web.Response(text="upstream connect error", status=503)


def warnings(caplog):
    return [each.message for each in caplog.records if "replay" in each.message and each.levelno >= logging.WARNING]


async def test_a_sibling_that_begins_itself_is_no_trouble(tmp_path, forgetful, caplog):
    first, _, pod = forgetful
    async with TinyEngine(lambda request, body: beginning(request)) as other:
        first.pods(pod, router_pod("qwen-router-9", RouterWorld("", other.url, first.pods_file, first.client)))
        async with running_router(tmp_path, NAMES[1]) as second:
            state = await state_of(second, lambda state: state.ready)
    assert state.map_origin == (
        "Began with the engines' own replay: no router had a map yet"
        " (qwen-router-9: it answered 503: There is no map yet)."
    )
    assert warnings(caplog) == []


async def test_a_proxy_that_does_not_reach_the_sibling_is_trouble(tmp_path, forgetful, caplog):
    first, _, pod = forgetful
    async with TinyEngine(lambda request, body: between(request)) as other:
        first.pods(pod, router_pod("qwen-router-9", RouterWorld("", other.url, first.pods_file, first.client)))
        async with running_router(tmp_path, NAMES[1]) as second:
            state = await state_of(second, lambda state: state.ready)
    assert warnings(caplog) == [state.map_origin]


async def test_siblings_that_do_not_listen_yet_are_no_trouble(pool, caplog):
    async with contextlib.AsyncExitStack() as closed:
        nobody = await closed.enter_async_context(TinyEngine(answers({})))
    pods = [
        router_pod(name, RouterWorld("", nobody.url, one.pods_file, one.client))
        for name, one in zip(NAMES, pool.routers, strict=True)
    ]
    pool.routers[0].pods(*pods)
    async with running_router(pool.routers[0].pods_file.parent, "qwen-router-2") as new:
        state = await state_of(new, lambda state: state.map_origin.startswith("Began"))
    assert "no router had a map yet (" in state.map_origin
    assert state.map_origin.count("nothing listens at its admin port") == 2
    assert warnings(caplog) == []


async def test_two_routers_of_a_fresh_pool_begin_without_a_warning(pool, caplog):
    origins = [(await each.state()).map_origin for each in pool.routers]
    assert any("no router had a map yet (" in each for each in origins)
    assert not [each for each in caplog.get_records("setup") if "replay" in each.getMessage() and each.levelno >= 30]


async def test_which_siblings_are_heard_is_a_metric(pool):
    one, _ = pool.routers
    assert 'kvpool_router_sibling_heard{sibling="qwen-router-1"} 1.0' in (await one.get("/metrics"))[1]
    unheard = router_pod(NAMES[1], RouterWorld("", "http://127.0.0.1:9", one.pods_file, one.client))
    one.pods(*pool.pods, router_pod(NAMES[0], one), unheard)

    async def is_told():
        return 'kvpool_router_sibling_heard{sibling="qwen-router-1"} 0.0' in (await one.get("/metrics"))[1]

    await eventually(is_told)
    one.pods(*pool.pods, router_pod(NAMES[0], one))

    async def is_gone():
        return "kvpool_router_sibling_heard{" not in (await one.get("/metrics"))[1]

    await eventually(is_gone)


async def test_a_router_that_has_no_map_yet_gives_none(tmp_path):
    async with running_router(tmp_path) as router:
        url = f"{router.admin}/siblings/snapshot"
        async with router.client.get(url, headers={"X-Kvpool-Token": TOKEN}) as answer:
            assert answer.status == 503
        async with router.client.get(url) as answer:
            assert answer.status == 401
