"""The command line as `vllm serve` reads it: what it takes is taken, what it refuses is refused in its words.

A trial would otherwise hide a typo until a real engine stops at it. The names are in `vllm_arguments.txt`, made from
the parser of the release that it names.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

NAMES = Path(__file__).with_name("vllm_arguments.txt")
_BEFORE_VALUE = re.compile(r"--[^.=]*")
_UNUSED = "unused"


_TIMES = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class SettingsError(Exception):
    """An argument that makes no sense; says which and why."""


class Arguments(argparse.ArgumentParser):
    """Takes what `vllm serve` takes; what of it was told and not asked for by `use` is in `unused` of the namespace."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description)
        self._vllm = vllm_arguments()
        self._used: set[str] = set()
        self.set_defaults(**{_UNUSED: []})

    def use(self, name: str) -> list[str]:
        """The names of an argument of vLLM's that means something here, for `add_argument`."""
        self._used.add(name)
        names, _ = self._vllm[name]
        return [each for each in names if not each.startswith("--no-")]

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """Raises SettingsError."""
        for name in self._vllm.keys() - self._used:
            names, takes = self._vllm[name]
            self.add_argument(*names, action=_Unused, nargs=takes, dest=_UNUSED, help=argparse.SUPPRESS)
        known, unknown = self.parse_known_args([word for each in _split(argv) for word in each])
        if unknown:
            raise SettingsError(f"vllm: error: unrecognized arguments: {' '.join(unknown)}")
        return known

    def error(self, message: str) -> NoReturn:
        raise SettingsError(f"vllm serve: error: {message}")


class _Unused(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, _UNUSED, [*getattr(namespace, _UNUSED), option_string or ""])


def amount(text: str) -> int:
    """As vLLM reads amounts: 25.6k is 25,600 and 25K is 25,600 as well; `auto` is -1. Raises ValueError."""
    if text == "auto":
        return -1
    if text[-1:] not in _TIMES:
        return int(text)
    number, times = text[:-1], _TIMES[text[-1]]
    return int(number) * times if text[-1].isupper() else int(float(number) * times)


def vllm_arguments() -> Mapping[str, tuple[list[str], str | int | None]]:
    """By first name: all names, and argparse's `nargs`."""
    lines = (line.split() for line in NAMES.read_text().splitlines() if line.startswith("-"))
    counts: Mapping[str, str | int | None] = {"0": 0, "1": None}
    return {names[0]: (names, counts.get(takes, takes)) for *names, takes in lines}


def _split(argv: Sequence[str]) -> Iterator[list[str]]:
    """As vLLM does it: underscores are dashes, `--config.key value` is a part of `--config`, `-O3` is a level."""
    for word in argv:
        if word.startswith("-O"):
            level = word[2:].removeprefix("=")
            yield ["--optimization-level", *([level] if level else [])]
        elif name := _BEFORE_VALUE.match(word):
            key, rest = name.group().replace("_", "-"), word[name.end() :]
            yield _part(key, rest) if rest.startswith(".") else [key + rest]
        else:
            yield [word]


def _part(key: str, rest: str) -> list[str]:
    _, equals, value = rest.partition("=")
    return [key, value] if equals else [key]
