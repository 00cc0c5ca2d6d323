"""Where an answer ends by itself, and how much of it a client has been told.

The simulated model's words are known beforehand, so its end is, too: the engine core needs to know no more than after
how many tokens a request stops.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from kvpool_sim.sampling import Sampling

_HORIZON = 20_000
"""Tokens that are looked at for a stop: the model repeats itself long before."""

Say: TypeAlias = Callable[[int], tuple[int, str]]
"""The answer's token at a place, and its text."""


@dataclass(frozen=True, slots=True)
class Ending:
    """`after` output tokens (None: only the limit ends it), with vLLM's `stop_reason`, and the text's length if cut."""

    after: int | None
    reason: str | int | None = None
    characters: int | None = None


def ending_of(say: Say, sampling: Sampling, own: int, max_tokens: int) -> Ending:
    """The first of: the model's own end after `own` tokens, a stop string, a stop token.

    Like vLLM, nothing ends an answer before `min_tokens`, and a stop string that began before may still end it after.
    """
    by_itself = Ending(None if sampling.ignore_eos else max(own, sampling.min_tokens))
    if not sampling.stop and not sampling.stop_token_ids:
        return by_itself
    bound = min(max_tokens, by_itself.after or max_tokens, _HORIZON)
    return _asked_for(say, sampling, bound) or by_itself


def _asked_for(say: Say, sampling: Sampling, bound: int) -> Ending | None:
    reach = max(map(len, sampling.stop), default=1) - 1
    keeps = sampling.include_stop_str_in_output
    length, tail = 0, ""
    for count in range(1, bound + 1):
        token, word = say(count - 1)
        seen, before = tail + word, length - len(tail)
        length += len(word)
        if token in sampling.stop_token_ids and count >= sampling.min_tokens:
            return Ending(count, token, length if keeps else length - len(word))
        if count > sampling.min_tokens and (found := _string_in(seen, len(word), sampling)):
            return Ending(count, found[0], before + found[1])
        tail = seen[-reach:] if reach else ""
    return None


def _string_in(seen: str, new: int, sampling: Sampling) -> tuple[str, int] | None:
    """The stop string that is complete first in the text's `new` last characters, and how much of the text is kept."""
    found: list[tuple[int, str, int]] = []
    for string in sampling.stop:
        begin = seen.find(string, max(0, len(seen) - new - len(string) + 1))
        if begin >= 0:
            found.append((begin + len(string), string, begin))
    if not found:
        return None
    end, string, begin = min(found, key=lambda each: each[0])
    return string, end if sampling.include_stop_str_in_output else begin


class Telling:
    """One answer's text as its stream tells it: what may become a stop string is held back until it cannot."""

    def __init__(self, ending: Ending, sampling: Sampling) -> None:
        self._cut = ending.characters
        longest = 1 if sampling.include_stop_str_in_output else max(map(len, sampling.stop), default=1)
        self._held_back = longest - 1
        self._untold = ""
        self._told = 0

    def told_by(self, word: str, *, is_last: bool) -> str:
        """What the client is told when the model has said one more word."""
        if not self._held_back and (self._cut is None or not is_last):
            self._told += len(word)
            return word
        text = self._untold + word
        free = len(text) - self._held_back
        if is_last:
            free = len(text) if self._cut is None else self._cut - self._told
        free = max(free, 0)
        self._untold = text[free:]
        self._told += free
        return text[:free]
