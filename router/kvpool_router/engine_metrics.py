"""What engines say about themselves on `/metrics`: read every few seconds, only the lines that are needed."""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import aiohttp

from kvpool_router.liveness import Liveness
from kvpool_router.tasks import stop
from kvpool_router.workers import Worker, WorkerId

LOG = logging.getLogger(__name__)

TIMEOUT_S = 2.0
ASK_AGAIN_AFTER_S = 1.0
"""After a reading that was not answered: a second one tells silence from a hiccup."""
FIRST_ROUND_S = 1.0
"""New engines are all read within this time, and at the same distances ever after."""

# Names of all releases; a full parser takes 40 times as long over the 60 kB that an engine answers.
_LINE = re.compile(
    r"^vllm:(num_requests_running|num_requests_waiting|(?:gpu_|kv_)cache_usage_perc|cache_config_info"
    r"|(?:gpu_)?prefix_cache_(?:hits|queries)(?:_total)?)\{(.*)\} (\S+)$",
    re.MULTILINE,
)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Reading:
    """One DP rank's own account. None where its release does not say."""

    running: int | None = None
    waiting: int | None = None
    kv_usage_percent: float | None = None
    prefix_hit_tokens: int | None = None
    prefix_query_tokens: int | None = None
    cache_tokens: int | None = None
    """Capacity of the KV cache on the GPU."""
    read_at: float = 0.0
    """On the caller's clock."""


def parse(exposition: str) -> dict[int, Reading]:
    """Readings by DP rank. Lines that do not parse are left out."""
    ranks: dict[int, Reading] = {}
    for name, labels, value in _LINE.findall(exposition):
        told = dict(_LABEL.findall(labels))
        try:
            rank = int(told.get("engine", "0"))
            ranks[rank] = _with(ranks.get(rank, Reading()), name, told, float(value))
        except (ValueError, OverflowError):
            continue
    return ranks


def _with(reading: Reading, name: str, labels: Mapping[str, str], value: float) -> Reading:
    if name == "cache_config_info":
        return replace(reading, cache_tokens=_cache_tokens(labels))
    if name == "num_requests_running":
        return replace(reading, running=int(value))
    if name == "num_requests_waiting":
        return replace(reading, waiting=int(value))
    if name.endswith("cache_usage_perc"):
        return replace(reading, kv_usage_percent=round(100 * value, 2))
    if "hits" in name:
        return replace(reading, prefix_hit_tokens=int(value))
    return replace(reading, prefix_query_tokens=int(value))


def _cache_tokens(labels: Mapping[str, str]) -> int | None:
    """Newer releases say it in tokens, which for hybrid models is not blocks times block size."""
    told = _number(labels.get("kv_cache_size_tokens"))
    blocks, size = _number(labels.get("num_gpu_blocks")), _number(labels.get("block_size"))
    if told is not None or blocks is None or size is None:
        return told
    return blocks * size


def _number(label: str | None) -> int | None:
    return int(label) if label is not None and label.isdecimal() else None


class EngineMetrics:
    """Reads every engine's metrics once an interval, one engine after the other.

    A reading stays until the next; its age is for the reader to judge. Whether an engine answered at all is told to
    `liveness`; one that does not is asked again soon, and holds up no other.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        clock: Callable[[], float],
        interval_s: float,
        took: Callable[[WorkerId, Reading], None],
        liveness: Liveness,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._session = session
        self._clock = clock
        self._interval_s = interval_s
        self._took = took
        self._liveness = liveness
        self._timeout_s = timeout_s
        self._readings: dict[WorkerId, Reading] = {}
        self._pollers: dict[str, asyncio.Task[None]] = {}
        self._ranks: dict[str, tuple[WorkerId, ...]] = {}

    def follow(self, workers: tuple[Worker, ...]) -> None:
        """Reads these from now on, and forgets all others. One poll serves all ranks behind a URL."""
        ranks: dict[str, tuple[WorkerId, ...]] = {}
        for worker in workers:
            ranks[worker.url] = (*ranks.get(worker.url, ()), worker.id)
        self._ranks = ranks
        for url in self._pollers.keys() - ranks.keys():
            self._pollers.pop(url).cancel()
        self._liveness.keep(ranks.keys())
        for position, url in enumerate(ranks.keys() - self._pollers.keys()):
            delay_s = min(self._interval_s, FIRST_ROUND_S) * position / len(ranks)
            self._pollers[url] = asyncio.create_task(self._poll(url, delay_s), name=f"metrics {url}")
        present = {worker.id for worker in workers}
        for gone in self._readings.keys() - present:
            del self._readings[gone]

    def reading(self, worker: WorkerId) -> Reading | None:
        return self._readings.get(worker)

    async def close(self) -> None:
        await stop(*self._pollers.values())

    async def _poll(self, url: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        while True:
            pause_s = self._interval_s
            try:
                self._take(url, await self._fetch(url))
            except TimeoutError:
                self._missed(url)
                pause_s = min(pause_s, ASK_AGAIN_AFTER_S)
            except (aiohttp.ClientError, UnicodeDecodeError) as error:
                LOG.debug("metrics of %s could not be read: %s", url, error)
            await asyncio.sleep(pause_s)

    async def _fetch(self, url: str) -> str:
        timeout = aiohttp.ClientTimeout(total=self._timeout_s)
        async with self._session.get(f"{url}/metrics", timeout=timeout) as response:
            self._answered(url)
            response.raise_for_status()
            return await response.text()

    def _missed(self, url: str) -> None:
        was_silent = self._liveness.is_silent(url)
        self._liveness.missed(url, self._clock())
        if self._liveness.is_silent(url) and not was_silent:
            LOG.warning("the engine at %s does not answer; its waiting requests go to others", url)

    def _answered(self, url: str) -> None:
        if self._liveness.is_silent(url):
            LOG.warning("the engine at %s answers again", url)
        self._liveness.answered(url)

    def _take(self, url: str, exposition: str) -> None:
        ranks = parse(exposition)
        for worker in self._ranks[url]:
            reading = ranks.get(worker.dp_rank)
            if reading is not None:
                self._readings[worker] = replace(reading, read_at=self._clock())
                self._took(worker, self._readings[worker])
