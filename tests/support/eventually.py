"""Waits for a condition instead of for a time."""

import asyncio
import time
from collections.abc import Callable


async def eventually(condition: Callable[[], object], *, within_s: float = 10.0) -> float:
    """Returns the seconds it took; fails with the condition's last value."""
    begun = time.monotonic()
    while not (value := condition()):
        assert time.monotonic() - begun < within_s, f"still {value!r} after {within_s} s"
        await asyncio.sleep(0.005)
    return time.monotonic() - begun
