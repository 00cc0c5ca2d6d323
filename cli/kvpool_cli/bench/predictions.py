"""What the router expected of each request, read from its admin endpoint while the run goes on."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from kvpool_api.wire import Decision, Decisions
from pydantic import ValidationError

from kvpool_cli.errors import UserError

BLOCK_TOKENS = 16
"""vLLM's own choice on GPUs."""
PAGE = 1000
"""As many decisions as a router keeps."""
READ_EVERY = 300
"""Requests sent between two readings: often enough that none leaves the ring unread while its answer is short, seldom
enough that the router does not feel it."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """The router's predictions beside what the engines then reported, over the requests where both are known."""

    requests: int
    prompt_tokens: int
    predicted_cached_tokens: int
    equal_in_blocks: int

    @property
    def hit_percent(self) -> float:
        return 100 * self.predicted_cached_tokens / self.prompt_tokens

    @property
    def equal_percent(self) -> float:
        return 100 * self.equal_in_blocks / self.requests


@dataclass(frozen=True, slots=True)
class AdminAccess:
    """A router's admin endpoint. `block_tokens` is the engines' block size."""

    url: str
    token: str
    block_tokens: int = BLOCK_TOKENS

    @classmethod
    def from_file(cls, url: str, token_file: Path, block_tokens: int) -> "AdminAccess":
        try:
            return cls(url, token_file.read_text().strip(), block_tokens)
        except (OSError, UnicodeDecodeError):
            raise UserError(f"--admin-token-file {token_file}: cannot be read") from None


@dataclass(slots=True)
class DecisionReader:
    """Gathers the decisions about one run's requests; the ring that the router keeps is shorter than a run."""

    admin: AdminAccess
    run_id: str
    seen: dict[str, Decision] = field(default_factory=dict)
    trouble: str | None = None

    async def follow(self, sent: Callable[[], int], done: asyncio.Event) -> None:
        """Reads once in a while until `done`, then a last time."""
        headers = {"X-Kvpool-Token": self.admin.token}
        async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=10)) as session:
            read_at, ended = 0, False
            while not ended:
                ended = await _set_within(done, 1.0)
                if ended or sent() - read_at >= READ_EVERY:
                    read_at = sent()
                    await self._read(session)

    async def _read(self, session: aiohttp.ClientSession) -> None:
        try:
            async with session.get(f"{self.admin.url}/decisions", params={"limit": PAGE}) as answer:
                answer.raise_for_status()
                self.take(Decisions.model_validate_json(await answer.read()).decisions)
        except (aiohttp.ClientError, TimeoutError, ValidationError) as error:
            self.trouble = f"{self.admin.url}/decisions: {str(error) or type(error).__name__}"

    def take(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            known = None not in (decision.prompt_tokens, decision.predicted_cached_tokens, decision.cached_tokens)
            if known and decision.request_id.startswith(self.run_id):
                self.seen[decision.request_id] = decision

    def predictions(self) -> Predictions | None:
        if not self.seen:
            return None
        block, decisions = self.admin.block_tokens, self.seen.values()
        return Predictions(
            requests=len(self.seen),
            prompt_tokens=sum(decision.prompt_tokens or 0 for decision in decisions),
            predicted_cached_tokens=sum(decision.predicted_cached_tokens or 0 for decision in decisions),
            equal_in_blocks=sum(
                (decision.predicted_cached_tokens or 0) // block == (decision.cached_tokens or 0) // block
                for decision in decisions
            ),
        )


async def _set_within(done: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await done.wait()
    except TimeoutError:
        return False
