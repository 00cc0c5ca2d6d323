"""Holds the router's token ids against each engine's own, for a few fixed prompts, off the request path.

A router that reads prompts otherwise than its engines would find nothing in its map, or the wrong worker, without any
error. It does where the files at hand are not those that the engine loaded, or where the engine was told to read
otherwise (`--chat-template`, `--default-chat-template-kwargs`, a renderer of its own).
"""

import asyncio
import logging
from array import array
from typing import NamedTuple

import aiohttp
import msgspec
from kvpool_api.wire import TokenParity

from kvpool_router.requests.prompts import ChatPrompt, Json, Message, TextPrompt, TokenIds
from kvpool_router.tasks import stop
from kvpool_router.tokens.engine_ids import EngineIds, EngineRefused
from kvpool_router.tokens.protocol import Tokenizer, Untokenizable
from kvpool_router.workers import Incarnation, Worker, WorkerId

LOG = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""An engine that computes at its limit answers late."""
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0

_CALL: Message = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "c1", "function": {"arguments": '{"city": "Zürich", "days": 2}', "name": "weather"}, "type": "function"}
    ],
}
_TALK: list[Message] = [
    {"role": "system", "content": "You are terse, e.g. don't greet.\n"},
    {"role": "user", "content": "Café, 漢字 & 12345?"},
    {"role": "assistant", "content": "So.", "reasoning": "I thought of it."},
    {"role": "user", "content": "Why?  "},
]
_RESULT: Message = {"role": "tool", "content": "grey", "tool_call_id": "c1"}
_WEATHER: dict[str, Json] = {
    "name": "weather",
    "description": "Tells the weather's <state>",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
PROMPTS: dict[str, TextPrompt | ChatPrompt] = {
    "a text": TextPrompt("Rules of the house:\n\n  1. don't; 2. naïve  漢字\t"),
    "a chat": ChatPrompt(_TALK[:2]),
    "a chat with earlier thoughts": ChatPrompt(_TALK),
    "a chat without thinking": ChatPrompt(_TALK[1:2], template_arguments={"enable_thinking": False}),
    "a chat with tools": ChatPrompt(
        [*_TALK[:2], _CALL, _RESULT], [{"type": "function", "function": _WEATHER}], calls_no_tool=True
    ),
}


class Verdict(NamedTuple):
    """Whether a worker reads prompts as this router does, and one sentence that says why."""

    parity: TokenParity
    reason: str


NOT_ASKED = Verdict(TokenParity.UNKNOWN, "The engine has not been asked yet.")
NOT_COMPARED = Verdict(TokenParity.UNKNOWN, "Engines tokenize every text themselves, so there is nothing to compare.")
NOT_TOLD = Verdict(TokenParity.UNKNOWN, "The engine's release does not tell its token ids.")
AGREES = Verdict(TokenParity.AGREES, "The engine makes the same token ids of the canary's prompts.")


class _Process(NamedTuple):
    """An engine process behind one address, whatever its ranks."""

    url: str
    incarnation: Incarnation


class Canary:
    """Asks each engine process once, again where it gave no answer, and now and then where it differs."""

    def __init__(self, engines: EngineIds, *, first_pause_s: float = FIRST_PAUSE_S) -> None:
        self._engines = engines
        self._first_pause_s = first_pause_s
        self._tokenizer: Tokenizer | None = None
        self._ranks: dict[_Process, tuple[WorkerId, ...]] = {}
        self._asking: dict[_Process, asyncio.Task[None]] = {}
        self._verdicts: dict[_Process, Verdict] = {}
        self.misread = frozenset[WorkerId]()
        """Workers whose blocks this router cannot know, while it can those of others: they are chosen by load."""
        self.doubt: str | None = None
        """Why the router's own reading is wrong: some engine differs, and none agrees."""

    def use(self, tokenizer: Tokenizer) -> None:
        """The router reads prompts so from now on; what was found before holds no more."""
        self._cancel(self._asking)
        self._verdicts.clear()
        self._tokenizer = tokenizer if tokenizer.reads_itself else None
        self._judge()
        self._begin()

    def follow(self, workers: tuple[Worker, ...]) -> None:
        """Asks for these, and forgets all others."""
        ranks: dict[_Process, tuple[WorkerId, ...]] = {}
        for worker in workers:
            if worker.ready:
                process = _process(worker)
                ranks[process] = (*ranks.get(process, ()), worker.id)
        self._ranks = ranks
        gone = self._asking.keys() - ranks.keys()
        self._cancel(gone)
        for process in gone:
            self._verdicts.pop(process, None)
        self._judge()
        self._begin()

    def verdict(self, worker: Worker) -> Verdict:
        if self._tokenizer is None:
            return NOT_COMPARED
        return self._verdicts.get(_process(worker), NOT_ASKED)

    async def close(self) -> None:
        await stop(*self._asking.values())

    def _cancel(self, processes: "set[_Process] | dict[_Process, asyncio.Task[None]]") -> None:
        for process in tuple(processes):
            self._asking.pop(process).cancel()

    def _begin(self) -> None:
        if self._tokenizer is None:
            return
        for process in self._ranks.keys() - self._asking.keys():
            work = self._ask(process, self._tokenizer)
            self._asking[process] = asyncio.create_task(work, name=f"canary {process.url}")

    async def _ask(self, process: _Process, tokenizer: Tokenizer) -> None:
        pause_s, before = self._first_pause_s, NOT_ASKED
        while True:
            verdict = await self._compared(process.url, tokenizer)
            if verdict.parity is not TokenParity.DIFFERS or verdict == before:
                self._tell(process, verdict)
            if verdict in (AGREES, NOT_TOLD):
                return
            before = verdict  # a difference must show twice: some templates print the day, and it may just have ended
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _compared(self, url: str, tokenizer: Tokenizer) -> Verdict:
        try:
            for name, prompt in PROMPTS.items():
                ours, theirs = await _ours(tokenizer, prompt), await self._theirs(url, prompt)
                if theirs is not None and ours != theirs:
                    return Verdict(TokenParity.DIFFERS, _difference(name, ours, theirs))
        except EngineRefused as refused:
            return NOT_TOLD if refused.not_served else _no_answer(refused)
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError, OverflowError) as error:
            return _no_answer(error)
        return AGREES

    async def _theirs(self, url: str, prompt: TextPrompt | ChatPrompt) -> TokenIds | None:
        """None where the engine refuses such a prompt, as it then does whenever a client sends one."""
        try:
            if isinstance(prompt, TextPrompt):
                return await self._engines.of_text(url, prompt, TIMEOUT_S)
            return await self._engines.of_chat(url, prompt, TIMEOUT_S)
        except EngineRefused as refused:
            if refused.is_the_prompts_fault:
                return None
            raise

    def _tell(self, process: _Process, verdict: Verdict) -> None:
        if self._verdicts.get(process) != verdict:
            level = logging.WARNING if verdict.parity is TokenParity.DIFFERS else logging.INFO
            LOG.log(level, "%s: %s", process.url, verdict.reason)
        self._verdicts[process] = verdict
        self._judge()

    def _judge(self) -> None:
        differing = [process for process, each in self._verdicts.items() if each.parity is TokenParity.DIFFERS]
        alone = bool(differing) and not any(each.parity is TokenParity.AGREES for each in self._verdicts.values())
        self.doubt = self._verdicts[differing[0]].reason if alone else None
        self.misread = frozenset() if alone else frozenset(each for one in differing for each in self._ranks[one])


def _no_answer(error: Exception) -> Verdict:
    why = f"The engine gives no answer to the canary's prompts: {type(error).__name__} {error}".rstrip()
    return Verdict(TokenParity.UNKNOWN, why + ".")


def _process(worker: Worker) -> _Process:
    return _Process(worker.url, worker.incarnation)


async def _ours(tokenizer: Tokenizer, prompt: TextPrompt | ChatPrompt) -> TokenIds | None:
    try:
        return await tokenizer.encode(prompt)
    except Untokenizable:
        return None


def _difference(name: str, ours: TokenIds | None, theirs: TokenIds) -> str:
    if ours is None:
        return f"The engine tokenizes {name}, which this router cannot."
    here, there = array("I", ours), array("I", theirs)
    place = next((n for n, (one, other) in enumerate(zip(here, there, strict=False)) if one != other), None)
    if place is None:
        return f"The engine makes {len(there)} tokens of {name}, this router {len(here)}."
    return f"The engine's token {place} of {name} is {there[place]}, this router's {here[place]}."
