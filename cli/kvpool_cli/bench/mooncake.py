"""Traces in Mooncake's format: one JSON object a line with timestamp (ms), input_length, output_length, hash_ids.

Equal hash ids mean equal prefix blocks of 512 tokens; only the last block of a prompt may be shorter.
"""

import itertools
import random
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kvpool_cli.bench.workload import Planned, Segment, Workload
from kvpool_cli.errors import UserError
from kvpool_cli.text_file import read_text

BLOCK_TOKENS = 512
LEAST_BURST_GAP_MS = 1000


class Row(BaseModel):
    """One request of a trace; what else its line holds is not read."""

    model_config = ConfigDict(frozen=True, strict=True)

    timestamp_ms: Annotated[float, Field(alias="timestamp", ge=0, allow_inf_nan=False)]
    input_tokens: Annotated[int, Field(alias="input_length", ge=1)]
    output_tokens: Annotated[int, Field(alias="output_length", ge=0)]
    hash_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """Which part of a trace is replayed, and how fast: its first `seconds` (all of it when None), `speed` times."""

    seconds: float | None = None
    speed: float = 1.0


def replay(path: Path, cut: Cut, seed: int, *, block_tokens: int = BLOCK_TOKENS) -> Workload:
    """The trace as a workload. Raises UserError for a file that is missing or not in the format."""
    rows = tuple(rows_of(path, block_tokens))
    spread_ms = burst_gap_ms([row.timestamp_ms for row in rows])
    draw = random.Random(seed)  # noqa: S311 - load, not secrets
    timed = sorted(((row.timestamp_ms + draw.uniform(0, spread_ms), row) for row in rows), key=itemgetter(0))
    kept = [(at_ms, row) for at_ms, row in timed if cut.seconds is None or at_ms < cut.seconds * 1000]
    if not kept:
        none = (
            "no request in it"
            if cut.seconds is None or not rows
            else f"its first request comes later than {cut.seconds:g} s; raise --seconds"
        )
        raise UserError(f"--trace {path}: {none}")
    return Workload(
        tuple(
            Planned(at_ms / 1000 / cut.speed, tuple(_segments(row, block_tokens)), max(1, row.output_tokens))
            for at_ms, row in kept
        ),
        _origin(path, len(kept), cut, spread_ms, seed),
    )


def _origin(path: Path, requests: int, cut: Cut, spread_ms: float, seed: int) -> str:
    part = "all" if cut.seconds is None else f"first {cut.seconds:g} s"
    spread = f", bursts every {spread_ms / 1000:g} s spread evenly over them (seed {seed})" if spread_ms else ""
    return f"trace {path.name}: {requests} requests, {part}, {cut.speed:g} x speed{spread}"


def _segments(row: Row, block_tokens: int) -> Iterator[Segment]:
    left = row.input_tokens
    for hash_id in row.hash_ids:
        yield Segment(f"block {hash_id}", min(block_tokens, left))
        left -= block_tokens


def burst_gap_ms(timestamps_ms: Sequence[float]) -> float:
    """How far apart bursts stand where the recorder rounded its clock; 0 where it did not.

    Mooncake's traces are quantised to 3 s: some ten requests share one timestamp. Replayed as they stand they would
    test the queue of a burst that never was.
    """
    times = sorted(set(timestamps_ms))
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return statistics.median(gaps) if gaps and min(gaps) >= LEAST_BURST_GAP_MS else 0.0


def rows_of(path: Path, block_tokens: int) -> Iterator[Row]:
    lines = read_text(path, named="--trace").splitlines()
    return _parsed(path, enumerate(lines, start=1), block_tokens)


def _parsed(path: Path, lines: Iterable[tuple[int, str]], block_tokens: int) -> Iterator[Row]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = Row.model_validate_json(line)
        except ValidationError as error:
            raise _not_a_request(path, number, _reason(error)) from None
        if len(row.hash_ids) != -(-row.input_tokens // block_tokens):
            raise _not_a_request(
                path, number, f"hash_ids must name each block of {block_tokens} tokens of input_length"
            )
        yield row


def _not_a_request(path: Path, line: int, why: str) -> UserError:
    return UserError(
        f"--trace {path}, line {line}: not a request in Mooncake's format "
        f"(timestamp, input_length, output_length, hash_ids): {why}"
    )


def _reason(error: ValidationError) -> str:
    """The first thing wrong, with its place in the line."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return f"{place}: {first['msg']}" if place else first["msg"]
