import asyncio

import pytest
from kvpool_cli.bench.open_loop import Tally, Target, run
from kvpool_cli.bench.token_ids import Bodies, TokenIds
from kvpool_cli.bench.workload import Planned, Segment, Workload
from openai_stub import Stub, running

IDS = TokenIds(4000)


def workload(*arrivals_s, tokens=4):
    return Workload(tuple(Planned(at, (Segment("x", 48),), tokens) for at in arrivals_s), "test")


async def outcomes_of(stub, load, **target):
    tally = Tally(len(load.requests))
    await run(load, Bodies("stub", IDS), Target(stub.url, "stub", **target), tally)
    assert (tally.sent, tally.in_flight) == (len(load.requests), 0)
    return sorted(tally.outcomes, key=lambda outcome: outcome.due_s)


async def test_requests_leave_when_due_though_earlier_ones_have_not_ended():
    async with running(Stub(interval_s=0.05)) as stub:
        first, second = await outcomes_of(stub, workload(0, 0.1))
    assert second.sent_s < first.last_s
    assert 0 <= second.late_s < 0.1
    assert second.tpot_s == pytest.approx(0.067, abs=0.03)


async def test_ttft_counts_from_the_scheduled_arrival():
    async with running(Stub()) as stub:
        load = workload(0)
        (outcome,) = await outcomes_of(stub, load)
    assert outcome.ttft_s == outcome.first_s - 0
    assert outcome.ttft_s >= outcome.late_s


async def test_usage_is_the_engines_and_each_request_has_an_id_of_the_run():
    async with running(Stub(cached=32)) as stub:
        (outcome,) = await outcomes_of(stub, workload(0), run_id="bench-1", api_key="secret")
    assert (outcome.usage.prompt, outcome.usage.cached, outcome.usage.output) == (48, 32, 4)
    assert stub.request_ids == ["bench-1-0"]


@pytest.mark.parametrize(
    ("stub", "error"),
    [
        (Stub(refuse=429), "HTTP 429: Overloaded"),
        (Stub(cut_after=1), "stream cut off"),
        (Stub(error_after=2), "stream error: EngineGone"),
    ],
)
async def test_a_failure_is_an_outcome_with_its_kind(stub, error):
    async with running(stub):
        (outcome,) = await outcomes_of(stub, workload(0))
    assert outcome.error == error
    assert outcome.usage is None
    assert outcome.ttft_s is None
    assert outcome.tpot_s is None


async def test_nobody_at_home_and_no_answer_in_time_are_told_apart():
    async with running(Stub(interval_s=5)) as stub:
        (slow,) = await outcomes_of(stub, workload(0), timeout_s=0.2)
    (absent,) = await outcomes_of(stub, workload(0))
    assert (slow.error, absent.error) == ("timed out", "cannot connect")


async def answered_with(answer):
    """The outcome of a request to a server that says these bytes and hangs up."""

    async def serve(_, writer):
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        stub = Stub(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        (outcome,) = await outcomes_of(stub, workload(0))
    return outcome


async def test_an_answer_of_another_server_is_a_failure_too():
    outcome = await answered_with(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops")
    assert outcome.error == "HTTP 502: not in OpenAI's shape"


async def test_a_connection_that_breaks_in_a_stream_is_a_failure_too():
    outcome = await answered_with(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: {}\r\n")
    assert outcome.error == "connection broken: ClientPayloadError"


async def test_a_body_of_megabytes_is_sent_without_holding_up_the_loop():
    async with running(Stub()) as stub:
        load = Workload((Planned(0, (Segment("long", 300_000),), 2),), "test")
        (outcome,) = await outcomes_of(stub, load)
    assert outcome.usage.prompt == 300_000
