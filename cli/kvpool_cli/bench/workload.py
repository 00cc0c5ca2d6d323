"""What is sent and when: pure data, made before the clock starts."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

Arrivals = Literal["poisson", "even"]


class Segment(NamedTuple):
    """A run of prompt tokens. Segments with one key begin with the same tokens, in every run."""

    key: str
    tokens: int


class Planned(NamedTuple):
    """One request: due `arrival_s` seconds after the start, its prompt, and how many tokens it asks for."""

    arrival_s: float
    segments: tuple[Segment, ...]
    output_tokens: int

    @property
    def prompt_tokens(self) -> int:
        return sum(segment.tokens for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in order of arrival, and one line that says what was done to make them."""

    requests: tuple[Planned, ...]
    origin: str

    @property
    def last_arrival_s(self) -> float:
        return self.requests[-1].arrival_s if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class SharedPrefix:
    """llm-d's multi-tenant profile: each group shares a system prompt, each prompt adds a question of its own.

    The prompts are shuffled once and then cycled, as its load generator does: to an LRU cache that is smaller than the
    working set this is the worst order there is.
    """

    groups: int = 75
    prompts_per_group: int = 5
    system_tokens: int = 6000
    question_tokens: int = 1200
    output_tokens: int = 64
    rate_per_s: float = 9.0
    seconds: float = 60.0
    arrivals: Arrivals = "poisson"


def shared_prefix(profile: SharedPrefix, seed: int) -> Workload:
    draw = random.Random(seed)  # noqa: S311 - load, not secrets
    prompts = [(group, prompt) for group in range(profile.groups) for prompt in range(profile.prompts_per_group)]
    draw.shuffle(prompts)
    times = arrival_times(profile.arrivals, profile.rate_per_s, profile.seconds, draw)
    return Workload(
        tuple(
            Planned(at, _tenant_prompt(profile, *prompts[n % len(prompts)]), profile.output_tokens)
            for n, at in enumerate(times)
        ),
        f"shared prefixes: {profile.groups} groups x {profile.prompts_per_group} prompts, "
        f"{profile.system_tokens:,} shared + {profile.question_tokens:,} own tokens, {profile.output_tokens} out, "
        f"{profile.arrivals} arrivals at {profile.rate_per_s:g}/s for {profile.seconds:g} s, seed {seed}",
    )


def _tenant_prompt(profile: SharedPrefix, group: int, prompt: int) -> tuple[Segment, ...]:
    return (
        Segment(f"group {group}", profile.system_tokens),
        Segment(f"group {group} prompt {prompt}", profile.question_tokens),
    )


def arrival_times(arrivals: Arrivals, rate_per_s: float, seconds: float, draw: random.Random) -> Iterator[float]:
    """Times in [0, seconds): independent ones (`poisson`), or one every 1/rate seconds (`even`)."""
    at = 0.0
    while at < seconds:
        yield at
        at += draw.expovariate(rate_per_s) if arrivals == "poisson" else 1 / rate_per_s
