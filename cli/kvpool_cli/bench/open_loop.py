"""Sends each request when it is due, whatever became of the others, and times what comes back."""

import asyncio
import io
import json
import secrets
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field

import aiohttp

from kvpool_cli.bench.outcome import Outcome
from kvpool_cli.bench.stream import StreamReading
from kvpool_cli.bench.token_ids import Bodies
from kvpool_cli.bench.workload import Planned, Workload

LARGE_BYTES = 1 << 20
"""aiohttp wants larger bodies as a file, so that sending them does not hold up the event loop."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go. `timeout_s` bounds one request from its sending to its last byte."""

    url: str
    model: str
    api_key: str | None = None
    timeout_s: float = 600.0
    run_id: str = field(default_factory=lambda: f"bench-{secrets.token_hex(4)}")
    """Begins the `X-Request-Id` of each request, so that they can be found among the router's decisions."""

    @property
    def headers(self) -> Mapping[str, str]:
        key = {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        return {"Content-Type": "application/json", **key}


@dataclass(slots=True)
class Tally:
    """How far a run has come; `outcomes` is in order of ending."""

    planned: int
    sent: int = 0
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def in_flight(self) -> int:
        return self.sent - len(self.outcomes)


async def run(workload: Workload, bodies: Bodies, target: Target, tally: Tally) -> None:
    """Replays the workload; ends when every request has ended. Cancelling it aborts the requests in flight."""
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        timeout=aiohttp.ClientTimeout(total=target.timeout_s),
        headers=target.headers,
        auto_decompress=False,
    )
    async with session, asyncio.TaskGroup() as requests:
        await _send_all(workload, bodies, _Client(session, target, _Clock()), tally, requests.create_task)


async def _send_all(
    workload: Workload,
    bodies: Bodies,
    client: "_Client",
    tally: Tally,
    start: Callable[[Coroutine[None, None, None]], object],
) -> None:
    for number, planned in enumerate(workload.requests):
        body = bodies.body(planned)  # made while its time has not come yet
        await asyncio.sleep(planned.arrival_s - client.clock.now())
        tally.sent += 1
        start(_sent(client, planned, body, number, tally))


async def _sent(client: "_Client", planned: Planned, body: bytes, number: int, tally: Tally) -> None:
    tally.outcomes.append(await client.complete(planned.arrival_s, body, f"{client.run_id}-{number}"))


class _Clock:
    """Seconds since the run began."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()

    def now(self) -> float:
        return self._loop.time() - self._start


class _Client:
    def __init__(self, session: aiohttp.ClientSession, target: Target, clock: _Clock) -> None:
        self._session = session
        self._url = f"{target.url.rstrip('/')}/v1/completions"
        self.run_id = target.run_id
        self.clock = clock

    async def complete(self, due_s: float, body: bytes, request_id: str) -> Outcome:
        """One request from sending to its last byte; a failure is an outcome, not an exception."""
        sent_s, reading = self.clock.now(), StreamReading()
        try:
            error = await self._read(body, request_id, reading)
        except aiohttp.ClientConnectorError:
            error = "cannot connect"
        except TimeoutError:
            error = "timed out"
        except aiohttp.ClientError as broken:
            error = f"connection broken: {type(broken).__name__}"
        ended = error or reading.ending()
        last_s = self.clock.now() if reading.last_at is None else reading.last_at
        if isinstance(ended, str):
            return Outcome(due_s, sent_s, reading.first_at, last_s, error=ended)
        return Outcome(due_s, sent_s, reading.first_at, last_s, usage=ended)

    async def _read(self, body: bytes, request_id: str, reading: StreamReading) -> str | None:
        """Feeds the stream to `reading`; returns in a few words what the server refused."""
        sent = body if len(body) <= LARGE_BYTES else io.BytesIO(body)
        async with self._session.post(self._url, data=sent, headers={"X-Request-Id": request_id}) as response:
            if response.status != 200:
                return f"HTTP {response.status}: {_refusal(await response.read())}"
            while received := await response.content.readany():
                reading.feed(received, self.clock.now())
        return None


def _refusal(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["type"])
    except (ValueError, KeyError, TypeError):
        return "not in OpenAI's shape"
