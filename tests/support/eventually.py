"""Waits for a condition instead of for a time."""

import asyncio
import inspect
import time
from collections.abc import Callable

SOON_S, SELDOM_S = 0.005, 0.1
"""What takes long is looked at more seldom: who waits takes nothing from what is waited for."""


async def eventually(condition: Callable[[], object], *, within_s: float = 10.0) -> float:
    """Returns the seconds until the condition, plain or a coroutine, holds; fails with its last value."""
    begun, pause_s = time.monotonic(), SOON_S
    while not (value := await _value(condition)):
        assert time.monotonic() - begun < within_s, f"still {value!r} after {within_s} s"
        await asyncio.sleep(pause_s)
        pause_s = min(SELDOM_S, pause_s * 1.2)
    return time.monotonic() - begun


async def _value(condition: Callable[[], object]) -> object:
    value = condition()
    return await value if inspect.isawaitable(value) else value
