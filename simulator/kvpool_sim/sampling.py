"""What a client asks of the sampler. It has no effect on the simulated model save where answers end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from kvpool_sim.refusal import Refusal, named

_MOST_CHOICES = 16_384
_LONGEST_SALT = 128
_NOT_IN_SALTS = frozenset("@/\\\0")


@dataclass(frozen=True, slots=True)
class Sampling:
    """The parameters that vLLM checks or that end an answer, by its own names and with its defaults."""

    max_tokens: int | None = None
    n: int = 1
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    stop_token_ids: frozenset[int] = frozenset()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    logprobs: int | None = None
    """How many likely tokens are told at each place, beside the chosen one; None: nothing is."""


def check_salt(salt: object) -> None:
    """Raises Refusal. Salts become parts of keys in cache stores, hence the forbidden characters."""
    if salt is None:
        return
    if not isinstance(salt, str) or not salt:
        raise named("cache_salt", "Parameter 'cache_salt' must be a non-empty string if provided.")
    if len(salt) > _LONGEST_SALT or _NOT_IN_SALTS & set(salt):
        text = r"Parameter 'cache_salt' must be at most 128 characters and must not contain '@', '/', '\\', or NUL."
        raise named("cache_salt", text)


def check_sampling(sampling: Sampling) -> None:
    """Raises Refusal: the first of what vLLM complains of, in its order."""
    for refusal in (*_choices(sampling), *_penalties(sampling), *_distribution(sampling), *_length(sampling)):
        raise refusal


def _choices(sampling: Sampling) -> Iterator[Refusal]:
    if sampling.n < 1:
        yield Refusal(400, f"n must be at least 1, got {sampling.n}.")
    if sampling.n > _MOST_CHOICES:
        mend = "To increase this limit, set the VLLM_MAX_N_SEQUENCES environment variable."
        yield Refusal(400, f"n must be at most {_MOST_CHOICES}, got {sampling.n}. {mend}")


def _penalties(sampling: Sampling) -> Iterator[Refusal]:
    for name in ("presence_penalty", "frequency_penalty"):
        value = getattr(sampling, name)
        if value is not None and not -2.0 <= value <= 2.0:
            yield Refusal(400, f"{name} must be in [-2, 2], got {value}.")
    repetition = sampling.repetition_penalty
    if repetition is not None and not math.isfinite(repetition):
        yield Refusal(400, f"repetition_penalty must be a finite number, got {repetition}.")
    if repetition is not None and repetition <= 0.0:
        yield Refusal(400, f"repetition_penalty must be greater than zero, got {repetition}.")


def _distribution(sampling: Sampling) -> Iterator[Refusal]:
    if sampling.temperature is not None:
        yield from _temperature(sampling.temperature)
    if sampling.top_p is not None and not 0.0 < sampling.top_p <= 1.0:
        yield named("top_p", f"top_p must be in (0, 1], got {sampling.top_p}.", sampling.top_p)
    if sampling.top_k is not None and sampling.top_k < -1:
        yield Refusal(400, f"top_k must be 0 (disable), or at least 1, got {sampling.top_k}.")
    if sampling.min_p is not None and not 0.0 <= sampling.min_p <= 1.0:
        yield Refusal(400, f"min_p must be in [0, 1], got {sampling.min_p}.")


def _temperature(value: float) -> Iterator[Refusal]:
    if not math.isfinite(value):
        yield named("temperature", f"temperature must be a finite number, got {value}.", value)
    if value < 0.0:
        yield named("temperature", f"temperature must be non-negative, got {value}.", value)
    if value > 2.0:
        yield named("temperature", f"temperature must be in [0, 2], got {value}.", value)


def _length(sampling: Sampling) -> Iterator[Refusal]:
    most, least = sampling.max_tokens, sampling.min_tokens
    if most is not None and most < 1:
        yield named("max_tokens", f"max_tokens must be at least 1, got {most}.", most)
    if least < 0:
        yield Refusal(400, f"min_tokens must be greater than or equal to 0, got {least}.")
    if most is not None and least > most:
        yield Refusal(400, f"min_tokens must be less than or equal to max_tokens={most}, got {least}.")
    if sampling.logprobs is not None and sampling.logprobs < -1:
        text = f"logprobs must be non-negative or -1, got {sampling.logprobs}."
        yield named("logprobs", text, sampling.logprobs)
    if "" in sampling.stop:
        yield Refusal(400, "stop cannot contain an empty string.")
    if sampling.temperature == 0.0 and sampling.n > 1:
        yield Refusal(400, f"n must be 1 when using greedy sampling, got {sampling.n}.")
