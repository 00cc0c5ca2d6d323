"""Requests that share prefixes, of which the caches of all engines together hold about the popular half."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, count
from random import Random

SUFFIX_TOKENS = 64


@dataclass(frozen=True)
class Traffic:
    """`groups` prefixes of Zipf popularity, each request with a suffix of its own."""

    groups: int
    prefix_tokens: int
    seed: int

    def prompts(self) -> Iterator[array[int]]:
        """For ever, the same for the same seed."""
        draw = Random(self.seed)
        prefixes = [[draw.randrange(100, 3000) for _ in range(self.prefix_tokens)] for _ in range(self.groups)]
        weights = list(accumulate(1 / (rank + 1) ** 0.7 for rank in range(self.groups)))
        for _ in count():
            (chosen,) = draw.choices(prefixes, cum_weights=weights)
            yield array("I", chosen + [draw.randrange(100, 3000) for _ in range(SUFFIX_TOKENS)])


def percent(cached: int, prompt: int) -> float:
    return 100 * cached / prompt if prompt else float("nan")
