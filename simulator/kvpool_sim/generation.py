"""One answer in the making: its requests in the engine, and what its shape is told of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from kvpool_sim.answers.shape import Choice, Likely, Piece, Shape, Usage
from kvpool_sim.asks import Ask, Ids
from kvpool_sim.core.request import EngineRequest
from kvpool_sim.driver import Driver, News, Running
from kvpool_sim.endings import Telling, ending_of
from kvpool_sim.http import Send, begin_stream, respond
from kvpool_sim.vocabulary import Vocabulary

_LONGEST_OWN_ANSWER = 400
_SHORTEST_OWN_ANSWER = 100
_SEED_STRIDE = 104_729
_LOGPROB = -0.25


class Voice:
    """One choice of an answer: its request in the engine, where it will end, and what it says."""

    def __init__(self, ask: Ask, prompt: Ids, number: int, vocabulary: Vocabulary) -> None:
        drawn = zlib.crc32(prompt) + number * _SEED_STRIDE
        own = _SHORTEST_OWN_ANSWER + drawn % (_LONGEST_OWN_ANSWER - _SHORTEST_OWN_ANSWER)
        self._ask = ask
        self._vocabulary = vocabulary
        self._seed = drawn
        self._ending = ending_of(self._said, ask.sampling, own, ask.max_tokens)
        self._telling = Telling(self._ending, ask.sampling)
        self._offset = 0
        self.request = EngineRequest(
            prompt[:], len(prompt), ask.max_tokens, self._ending.after, salt=ask.salt, adapter=ask.adapter, seed=drawn
        )

    def piece(self, choice: int, number: int) -> Piece:
        """The choice's output token of that number, counted from 0; to be asked for in order."""
        request, ask = self.request, self._ask
        token = request.tokens[request.prompt_tokens + number]
        ended = request.finished if number + 1 == request.output_tokens else None
        text = self._telling.told_by(self._vocabulary.text(token), is_last=ended is not None)
        if ask.echo != "nothing" and number == 0:
            text = self._prompt_text() + ("" if ask.echo == "prompt alone" else text)
        tells_prompt = number == 0 and (ask.tells_ids or ask.echo != "nothing")
        self._offset += len(text)
        return Piece(
            choice,
            text,
            token,
            ended,
            self._ending.reason if ended == "stop" else None,
            self._likely(number),
            ask.tells_ids,
            self._prompt() if tells_prompt else None,
            self._offset - len(text),
        )

    def whole(self) -> Choice:
        """The choice, once its request has ended."""
        request, ask = self.request, self._ask
        ids = request.tokens[request.prompt_tokens :]
        text = "".join(map(self._vocabulary.text, ids))
        by_itself = request.finished == "stop"
        if by_itself and self._ending.characters is not None:
            text = text[: self._ending.characters]
        if ask.echo != "nothing":
            text = self._prompt_text() + ("" if ask.echo == "prompt alone" else text)
        return Choice(
            text,
            request.finished or "length",
            self._ending.reason if by_itself else None,
            ids.tolist() if ask.tells_ids else None,
            self._prompt() if ask.tells_ids else None,
            self._all_likely(len(ids)),
        )

    def _said(self, place: int) -> tuple[int, str]:
        token = self._vocabulary.word(self._seed, place)
        return token, self._vocabulary.text(token)

    def _prompt(self) -> list[int]:
        return self.request.tokens[: self.request.prompt_tokens].tolist()

    def _prompt_text(self) -> str:
        """Like vLLM: who is told the prompt's ids is not told its text, too."""
        return "" if self._ask.tells_ids else self._vocabulary.decode(self._prompt())

    def _all_likely(self, count: int) -> list[Likely] | None:
        found = [each for place in range(count) if (each := self._likely(place)) is not None]
        return None if self._ask.sampling.logprobs is None else found

    def _likely(self, place: int) -> Likely | None:
        """Invented: the said token is always the likeliest, and the next words of the answer follow it."""
        asked = self._ask.sampling.logprobs
        if asked is None:
            return None
        others = [(self._said(place + ahead)[1], _LOGPROB - ahead) for ahead in range(asked)]
        return Likely(self._said(place)[1], _LOGPROB, others)


@dataclass(frozen=True, slots=True)
class Counting:
    """What `usage` tells of the cache."""

    block_tokens: int
    tells_cached: bool


class Generation:
    """An answer: all its prompts, with as many choices each as were asked for."""

    def __init__(self, ask: Ask, vocabulary: Vocabulary, counting: Counting) -> None:
        self._ask = ask
        self._counting = counting
        choices = range(ask.sampling.n)
        self._voices = [Voice(ask, prompt, number, vocabulary) for prompt in ask.prompts for number in choices]

    def submitted(self, driver: Driver) -> Running:
        return driver.submit([voice.request for voice in self._voices])

    async def whole(self, running: Running, shape: Shape, send: Send) -> None:
        await running.ended()
        # Like vLLM, the cache is told of the last prompt's last choice only.
        await respond(send, 200, shape.whole(self._choices(), self._usage(self._voices[-1].request)))

    async def stream(self, running: Running, shape: Shape, send: Send) -> None:
        news = await running.news()
        # Like vLLM, the cache is told of what was heard of first only.
        first = self._voices[news[0].choice if news else 0].request
        await begin_stream(send)
        written = [shape.opening(self._usage(first, 0))]
        while news:
            written += [self._chunks(each, shape) for each in news]
            await send({"type": "http.response.body", "body": b"".join(written), "more_body": True})
            written = []
            news = await running.news()
        last = shape.closing(self._choices(), self._usage(first))
        await send({"type": "http.response.body", "body": last})

    def _chunks(self, news: News, shape: Shape) -> bytes:
        """One event for each new token: several where the reader was late."""
        voice = self._voices[news.choice]
        prompt = voice.request.prompt_tokens
        written = [
            shape.token(voice.piece(news.choice, number), Usage(prompt, number + 1, None))
            for number in range(news.begin, news.end)
        ]
        return written[0] if len(written) == 1 else b"".join(written)

    def _choices(self) -> list[Choice]:
        return [voice.whole() for voice in self._voices]

    def _usage(self, told: EngineRequest, completion: int | None = None) -> Usage:
        said = sum(voice.request.output_tokens for voice in self._voices) if completion is None else completion
        cached = created = None
        if self._counting.tells_cached:
            cached, created = told.cached_tokens or 0, told.created_cache_tokens(self._counting.block_tokens)
        return Usage(sum(map(len, self._ask.prompts)), said, cached, created)
