"""What does a long conversation's next turn cost the router, from its body to the choice of a worker?

python -m benchmarks.tokens [--quick] [--json]

Qwen3's own vocabulary and chat template (fetched into the user's cache folder). A conversation of 20 turns and about
100,000 tokens, each turn a question of some 1,000 tokens and an answer of some 4,000 behind 200 of thinking, which the
template drops from the next turn on: so each turn rewrites the one before. The map holds, by events and in full,
what each of 8 workers was sent. All parts run as they do in the router, one after the other in one thread (long
texts are encoded in another, on all cores).

- `tokens`: rendering, look-ups and encoding, from the peeked prompt to its ids.
- `new_text`: the same encoder, in a thread too, on nothing but the turn's new texts; before it or after it by turns.
- `decision`: the whole, from the body's bytes to the worker: peek, tokens, match, score and pick.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import uvloop
from kvpool_api.spec import Strategy as StrategyName
from kvpool_router.calibration import Calibration
from kvpool_router.events.wire import BlockStored, TokenIds
from kvpool_router.index.cache_map import CacheMap
from kvpool_router.index.namespace import Namespace
from kvpool_router.index.runs import TOKEN_BYTES
from kvpool_router.load import Load
from kvpool_router.pick import holdings, views
from kvpool_router.requests.peek import peek
from kvpool_router.requests.prompts import token_count
from kvpool_router.score import STRATEGIES
from kvpool_router.score.protocol import RequestView, Strategy
from kvpool_router.tokens.hf_impl import TOKENIZER_FILE, HfTokenizer, load
from kvpool_router.tokens.segments import Segments
from kvpool_router.workers import Worker, WorkerId
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "support"))

from vocabularies import Unreachable, qwen3  # noqa: E402 - it lives with the tests

PATH = "/v1/chat/completions"
TURNS = 20
QUESTION_WORDS, THOUGHT_WORDS, ANSWER_WORDS = 600, 120, 2400
BLOCK_TOKENS = 16
WORKERS = 8
PLAIN = Namespace()
Found = TypeVar("Found")


@dataclass
class Part:
    """One stretch of the way over all rounds, in milliseconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def begun(self) -> Callable[[], None]:
        """To be called at its end."""
        wall, cpu = time.perf_counter(), time.process_time()

        def ended() -> None:
            self.wall.append(1e3 * (time.perf_counter() - wall))
            self.cpu.append(1e3 * (time.process_time() - cpu))

        return ended

    def timed(self, work: Callable[[], Found]) -> Found:
        ended = self.begun()
        found = work()
        ended()
        return found


Parts = defaultdict[str, Part]


class Talk:
    """A conversation that grows turn by turn; words are those of this project's own pages, in any order."""

    def __init__(self, seed: int) -> None:
        pages = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
        self._words = re.findall(r"\S+", "".join(page.read_text("utf-8") for page in pages))
        self._random = random.Random(seed)
        self._messages = [{"role": "system", "content": self._text(500)}]
        self.new: list[str] = []
        """The texts that the latest turn brought."""

    def next(self) -> bytes:
        """The body of the next turn."""
        self.new = []
        if len(self._messages) > 1:
            answer = self._text(ANSWER_WORDS)
            self._messages.append(
                {"role": "assistant", "content": f"<think>\n{self._text(THOUGHT_WORDS)}\n</think>\n\n{answer}"}
            )
            self.new.append(f"assistant\n{answer}")
        question = self._text(QUESTION_WORDS)
        self._messages.append({"role": "user", "content": question})
        self.new.append(f"user\n{question}")
        return json.dumps({"model": "qwen", "stream": True, "messages": self._messages}).encode()

    def _text(self, words: int) -> str:
        return " ".join(self._random.choices(self._words, k=words))


@dataclass
class Rig:
    """The parts of a router that a decision passes through."""

    tokenizer: HfTokenizer
    encoder: Segments
    """Beside it, its cache never used."""
    cache: CacheMap = field(default_factory=lambda: CacheMap(BLOCK_TOKENS, 60.0, None))
    load: Load = field(default_factory=lambda: Load(Calibration()))
    strategy: Strategy = field(default_factory=lambda: STRATEGIES[StrategyName.CACHE_AWARE](1))
    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    parts: Parts = field(default_factory=lambda: defaultdict(Part))


POOL = [
    Worker(WorkerId(f"engine-{n}", 0), f"uid-{n}", 0, "", None, None, ready=True, draining=False, terminating=False)
    for n in range(WORKERS)
]


def decided(rig: Rig, ids: bytes, now: float, parts: Parts) -> WorkerId:
    """Who takes the prompt."""
    held = parts["match"].timed(lambda: holdings([rig.cache.match(ids, PLAIN, now)]))

    def chosen() -> WorkerId:
        choice = rig.strategy(RequestView(token_count(ids)), views(POOL, rig.load, held, now), now)
        return POOL[choice.position].id

    return parts["score"].timed(chosen)


async def turn(rig: Rig, body: bytes, now: float, parts: Parts) -> tuple[bytes, WorkerId]:
    """The prompt's ids and who takes it."""
    whole = parts["decision"].begun()
    (prompt,) = parts["peek"].timed(lambda: peek(PATH, body)).prompts
    tokens = parts["tokens"].begun()
    ids = await rig.tokenizer.encode(prompt)
    tokens()
    worker = decided(rig, ids, now, parts)
    whole()
    return ids, worker


async def new_text(rig: Rig, texts: Sequence[str]) -> None:
    """In a thread, as the router encodes long texts."""
    pieces = [piece for text in texts for piece in rig.encoder.pieces(text)]
    ended = rig.parts["new_text"].begun()
    await asyncio.get_running_loop().run_in_executor(rig.thread, rig.encoder.encoded, pieces)
    ended()


def held_by_events(rig: Rig, worker: WorkerId, ids: bytes) -> None:
    """The engine says that it stored the whole blocks of the prompt."""
    blocks = token_count(ids) // BLOCK_TOKENS
    size, hashes = TOKEN_BYTES * BLOCK_TOKENS, [0]
    for start in range(0, blocks * size, size):
        hashes.append(hash((hashes[-1], ids[start : start + size])) & (1 << 64) - 1)
    del hashes[0]
    tokens = TokenIds(ids[: blocks * size])
    rig.cache.apply(worker, [BlockStored(hashes, None, tokens, BLOCK_TOKENS)])


async def conversation(rig: Rig, seed: int) -> int:
    """All turns; the last is measured. The tokens of its prompt."""
    talk, now, ids = Talk(seed), float(seed), b""
    for number in range(1, TURNS + 1):
        body = talk.next()
        if number < TURNS:
            ids, worker = await turn(rig, body, now, defaultdict(Part))
        elif seed % 2:
            await new_text(rig, talk.new)
            ids, worker = await turn(rig, body, now, rig.parts)
        else:
            ids, worker = await turn(rig, body, now, rig.parts)
            await new_text(rig, talk.new)
        rig.cache.sent(worker, ids, PLAIN, now)
        rig.cache.settle()
        held_by_events(rig, worker, ids)
    return token_count(ids)


async def measure(rig: Rig, rounds: int) -> dict[str, float]:
    sizes = [await conversation(rig, seed) for seed in range(rounds)]
    figures = {"prompt_tokens": statistics.median(sizes)}
    for name, part in rig.parts.items():
        figures[f"{name}_wall_ms"] = statistics.median(part.wall)
        figures[f"{name}_cpu_ms"] = statistics.median(part.cpu)
    over = [one - other for one, other in zip(rig.parts["tokens"].wall, rig.parts["new_text"].wall, strict=True)]
    figures["tokens_over_new_text_wall_ms"] = statistics.median(over)
    figures["tokens_vs_new_text"] = statistics.median(
        one / other for one, other in zip(rig.parts["tokens"].wall, rig.parts["new_text"].wall, strict=True)
    )
    return figures


BARS = {"tokens_over_new_text_wall_ms": "<= 3", "decision_wall_ms": "<= 8"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="30 conversations instead of 100")
    parser.add_argument("--json", action="store_true", help="one JSON object in the last line")
    wanted = parser.parse_args()
    try:
        folder = qwen3()
    except Unreachable as why:
        raise SystemExit(f"Qwen3's vocabulary cannot be had here: {why}") from None
    rig = Rig(load(folder), Segments(Tokenizer.from_file(str(folder / TOKENIZER_FILE))))
    found = uvloop.run(measure(rig, 30 if wanted.quick else 100))
    figures = {name: round(value, 3) for name, value in found.items()}
    table = Table("figure", "value", "bar", title=f"Turn {TURNS} of a conversation, Qwen3")
    for name, value in figures.items():
        table.add_row(name, f"{value:,}", BARS.get(name, ""))
    Console().print(table)
    if wanted.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
