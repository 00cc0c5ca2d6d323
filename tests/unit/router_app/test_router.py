"""The whole router: pods, events, engines and clients are real sockets; only the engines' models are missing."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from event_publisher import EventPublisher, below, removed, stored, tokens_of
from eventually import eventually
from kvpool_api.spec import Strategy
from kvpool_api.wire import EventState, WorkerState
from router_world import TOKEN, RouterWorld, pod_of, running_router
from tiny_engine import TinyEngine, answers, chat_events, dies, streams

PAGE = Path(__file__).resolve().parents[3] / "docs" / "metrics.md"


@pytest.fixture
def publisher():
    publisher = EventPublisher()
    yield publisher
    publisher.close()


@pytest.fixture
async def engine():
    async with TinyEngine() as engine:
        yield engine


@pytest.fixture
async def router(tmp_path, publisher, engine):
    async with running_router(tmp_path) as router:
        yield router


async def until_ready(router: RouterWorld) -> None:
    async def ready() -> bool:
        return (await router.get("/ready"))[0] == 200

    await eventually(ready)


async def until_worker(router: RouterWorld, holds: Callable[[WorkerState], object]) -> WorkerState:
    async def found() -> bool:
        return any(holds(worker) for worker in (await router.state()).workers)

    await eventually(found)
    return await router.worker("qwen-abc-0")


async def nobody_left(router: RouterWorld) -> bool:
    return not (await router.state()).workers


def prompt(block: int) -> dict[str, object]:
    raw = tokens_of(block)
    ids = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
    return {"model": "tiny", "prompt": ids, "stream": True}


async def complete(router: RouterWorld, block: int) -> int:
    async with router.client.post(f"{router.front}/v1/completions", json=prompt(block)) as answer:
        await answer.read()
        return answer.status


async def test_a_router_is_healthy_at_once_and_ready_when_the_engines_events_are_replayed(router, publisher, engine):
    assert (await router.get("/health"))[0] == 200
    status, body = await router.get("/ready")
    assert status == 503
    assert "not known yet" in body
    publisher.publish([stored(0)])
    router.pods(pod_of(publisher, engine.port))
    await until_ready(router)
    worker = await router.worker("qwen-abc-0")
    assert (worker.events, worker.synced, worker.blocks, worker.last_sequence) == (EventState.EXACT, True, 1, 0)


async def test_what_lies_below_an_engines_gpu_is_told_beside_what_is_on_it(router, publisher, engine):
    publisher.publish([stored(0), stored(1), stored(2)])
    publisher.publish([below(0, "CPU"), below(1, "CPU"), below(1, "STORAGE"), removed(0)])
    router.pods(pod_of(publisher, engine.port))
    await until_ready(router)
    worker = await router.worker("qwen-abc-0")
    assert (worker.blocks, worker.blocks_below_gpu) == (2, 3)
    metric = 'kvpool_router_worker_blocks_below_gpu{dp_rank="0",pod="qwen-abc-0"} 3.0'
    assert metric in (await router.get("/metrics"))[1]


async def test_a_request_goes_to_the_worker_that_holds_its_prefix_and_the_decision_says_so(router, publisher, engine):
    other_publisher = EventPublisher()
    try:
        async with TinyEngine() as other:
            publisher.publish([stored(7)])
            router.pods(pod_of(publisher, engine.port, "holds"), pod_of(other_publisher, other.port, "other"))
            await until_ready(router)
            assert await complete(router, 7) == 200
            assert (len(generations(engine)), len(generations(other))) == (1, 0)
    finally:
        other_publisher.close()
    async with router.client.get(
        f"{router.admin}/decisions?limit=5", headers={"Authorization": f"Bearer {TOKEN}"}
    ) as answer:
        (decision,) = (await answer.json())["decisions"]
    assert (decision["pod"], decision["predictedCachedTokens"], decision["outcome"]) == ("holds", 16, "ok")


def generations(engine: TinyEngine) -> list[str]:
    return [seen.target for seen in engine.seen if seen.method == "POST"]


async def test_a_draining_worker_gets_nothing_new_and_the_state_acknowledges_it(router, publisher):
    gate = asyncio.Event()
    async with TinyEngine(streams(chat_events(), gate=gate)) as engine:
        router.pods(pod_of(publisher, engine.port))
        await until_ready(router)
        running = asyncio.create_task(complete(router, 1))
        await eventually(lambda: generations(engine))
        assert (await router.worker("qwen-abc-0")).in_flight == 1
        router.pods(pod_of(publisher, engine.port, annotations={"kvpool.dev/draining": "2026-01-01T00:00:00Z"}))
        await until_worker(router, lambda worker: worker.draining)
        assert await complete(router, 2) == 503
        assert (await router.worker("qwen-abc-0")).in_flight == 1
        gate.set()
        assert await running == 200
        assert (await router.worker("qwen-abc-0")).in_flight == 0
        assert len(generations(engine)) == 1


async def test_the_engines_own_metrics_reach_the_state(router, publisher):
    async def respond(request: web.Request, body: bytes) -> web.Response:
        return web.Response(
            text='vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_waiting{engine="0"} 2\n'
            'vllm:kv_cache_usage_perc{engine="0"} 0.5\n'
            'vllm:cache_config_info{block_size="64",engine="0",num_gpu_blocks="10"} 1.0\n'
        )

    async with TinyEngine(respond) as engine:
        router.pods(pod_of(publisher, engine.port))
        await until_ready(router)
        worker = await until_worker(router, lambda worker: worker.running is not None)
    assert (worker.running, worker.waiting, worker.kv_usage_percent) == (3, 2, 50.0)


async def test_the_admin_port_wants_its_token(router):
    for headers in ({}, {"X-Kvpool-Token": "guess"}, {"Authorization": f"Basic {TOKEN}"}):
        async with router.client.get(f"{router.admin}/state", headers=headers) as answer:
            assert answer.status == 401
            error = (await answer.json())["error"]
            assert (error["type"], error["code"]) == ("AuthenticationError", 401)
            assert "Secret <pool>-admin" in error["message"]
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/docs", "/openapi.json"):
        async with router.client.get(router.admin + path) as answer:
            assert answer.status == 200


async def admitted(router, token):
    async with router.client.get(f"{router.admin}/state", headers={"X-Kvpool-Token": token}) as answer:
        return answer.status == 200, await answer.text()


async def test_a_changed_token_counts_with_the_next_request_and_the_old_one_no_longer(router):
    assert (await admitted(router, TOKEN))[0]
    router.token_file.write_text("another\n")
    assert (await admitted(router, "another"))[0]
    assert not (await admitted(router, TOKEN))[0]


@pytest.mark.parametrize("ruin", [lambda file: file.write_text("\n"), lambda file: file.unlink()])
async def test_nobody_is_let_in_while_there_is_no_token(router, ruin):
    ruin(router.token_file)
    for token in ("", TOKEN):
        let_in, words = await admitted(router, token)
        assert not let_in
        assert f"Nobody is let in: {router.token_file}" in words


@pytest.mark.parametrize(
    ("method", "path", "status", "kind", "param"),
    [
        ("GET", "/nothing", 404, "NotFoundError", None),
        ("POST", "/state", 405, "MethodNotAllowedError", None),
        ("GET", "/decisions?limit=0", 400, "BadRequestError", "limit"),
    ],
)
async def test_the_admin_port_refuses_in_the_shape_of_the_http_port(router, method, path, status, kind, param):
    async with router.client.request(method, router.admin + path, headers={"X-Kvpool-Token": TOKEN}) as answer:
        error = (await answer.json())["error"]
    assert (answer.status, error["type"], error["code"], error["param"]) == (status, kind, status, param)
    assert error["message"]


async def test_metrics_show_requests_and_workers_and_forget_workers_that_are_gone(router, publisher, engine):
    engine.respond = answers(
        {
            "id": "c",
            "choices": [],
            "usage": {"prompt_tokens": 17, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 16}},
        }
    )
    router.pods(pod_of(publisher, engine.port))
    await until_ready(router)
    async with router.client.post(f"{router.front}/v1/completions", json={**prompt(3), "stream": False}) as answer:
        assert answer.status == 200
    async with router.client.post(f"{router.front}/v1/nothing") as answer:
        assert answer.status == 404
    _, text = await router.get("/metrics")
    for series in (
        'kvpool_router_requests_total{outcome="ok",path="/v1/completions"} 1.0',
        'kvpool_router_refused_requests_total{status="404"} 1.0',
        "kvpool_router_cached_tokens_total 16.0",
        'kvpool_router_worker_requests_total{dp_rank="0",pod="qwen-abc-0"} 1.0',
        'kvpool_router_worker_events_state{dp_rank="0",pod="qwen-abc-0",state="EXACT"} 1.0',
        "kvpool_router_ready 1.0",
        "process_open_fds ",
    ):
        assert series in text
    assert not re.search(r"^# HELP \S+ *$", text, re.MULTILINE), "every metric has its help"
    router.pods()
    await eventually(lambda: nobody_left(router))
    assert "qwen-abc-0" not in (await router.get("/metrics"))[1]


async def test_members_that_cannot_be_read_are_told_in_metrics_and_readiness_while_traffic_goes_on(
    router, publisher, engine
):
    router.pods(pod_of(publisher, engine.port))
    await until_ready(router)
    assert "kvpool_router_membership_trouble 0.0" in (await router.get("/metrics"))[1]
    router.pods_file.write_text("torn")

    async def told() -> bool:
        return "kvpool_router_membership_trouble 1.0" in (await router.get("/metrics"))[1]

    await eventually(told)
    assert "keeping the last known workers" in (await router.state()).ready_reason
    assert await complete(router, 1) == 200


async def test_the_page_on_metrics_has_a_row_for_all_that_a_router_tells_and_none_to_spare(router, publisher, engine):
    router.pods(pod_of(publisher, engine.port))
    await until_ready(router)
    _, text = await router.get("/metrics")
    told = re.findall(r"^# TYPE (kvpool_\w+) (\w+)$", text, re.MULTILINE)
    rows = re.findall(r"^\| `(kvpool_router_\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((name, kind) for name, kind in told if not name.endswith("_created"))
    others = {name.partition("_")[0] for name in re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE)}
    assert others == {"kvpool", "process", "python"}


async def test_a_worker_that_fails_before_its_first_byte_counts_as_retried(tmp_path, publisher, engine):
    async with TinyEngine(dies()) as dead, running_router(tmp_path, strategy=Strategy.ROUND_ROBIN) as router:
        router.pods(pod_of(publisher, dead.port, "dead"), pod_of(publisher, engine.port, "well"))
        await until_ready(router)
        for block in range(2):
            assert await complete(router, block) == 200
        text = (await router.get("/metrics"))[1]
    assert 'kvpool_router_worker_retried_requests_total{dp_rank="0",pod="dead"} 1.0' in text
    assert 'kvpool_router_worker_retried_requests_total{dp_rank="0",pod="well"} 0.0' in text


async def test_a_text_that_cannot_be_tokenized_is_placed_all_the_same_and_counted(router, publisher, engine):
    engine.respond = None
    router.pods(pod_of(publisher, engine.port))
    await until_ready(router)
    async with router.client.post(
        f"{router.front}/v1/completions", json={"model": "tiny", "prompt": "hello", "stream": True}
    ) as answer:
        assert answer.status == 200
        await answer.read()
    text = (await router.get("/metrics"))[1]
    assert 'kvpool_router_untokenized_requests_total{cause="EngineFailed",path="/v1/completions"} 1.0' in text


async def test_requests_whose_prompts_are_still_being_tokenized_are_the_routers_queue(router, publisher, engine):
    tokenized = asyncio.Event()

    async def respond(request: web.Request, body: bytes) -> web.Response:
        if request.path == "/tokenize":
            await tokenized.wait()
            return web.json_response({"tokens": [1, 2]})
        return web.json_response({"choices": []})

    engine.respond = respond
    router.pods(pod_of(publisher, engine.port))
    await until_ready(router)
    sent = asyncio.create_task(
        router.client.post(f"{router.front}/v1/completions", json={"model": "tiny", "prompt": "hello"})
    )

    async def queue() -> int:
        return (await router.state()).queue

    await eventually(lambda: any(seen.target == "/tokenize" for seen in engine.seen))
    assert await queue() == 1
    tokenized.set()
    async with await sent as answer:
        assert answer.status == 200
    assert await queue() == 0


async def test_a_late_worker_starts_approximate_and_gets_requests(router, engine):
    router.pods()
    await until_ready(router)
    silent = EventPublisher()
    silent.close()
    router.pods(pod_of(silent, engine.port))
    worker = await until_worker(router, lambda worker: worker.url)
    assert worker.events is EventState.APPROXIMATE
    assert await complete(router, 1) == 200
    assert (await router.get("/ready"))[0] == 200


async def test_event_ports_that_are_dead_delay_readiness_no_longer_than_the_time_out(tmp_path, engine):
    silent = EventPublisher()
    silent.close()
    async with running_router(tmp_path, sync_timeout_s=0.2) as router:
        router.pods(pod_of(silent, engine.port))
        await until_ready(router)
        state = await router.state()
        assert state.ready_reason == "Ready without the KV events of qwen-abc-0/0."
        assert "engine" in state.tokenizer
