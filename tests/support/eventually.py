"""Waits for a condition instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], object], *, within_s: float = 10.0) -> float:
    """Returns the seconds until the condition, plain or a coroutine, holds; fails with its last value."""
    begun = time.monotonic()
    while not (value := await _value(condition)):
        assert time.monotonic() - begun < within_s, f"still {value!r} after {within_s} s"
        await asyncio.sleep(0.005)
    return time.monotonic() - begun


async def _value(condition: Callable[[], object]) -> object:
    value = condition()
    return await value if inspect.isawaitable(value) else value
