"""Two ways to end tasks."""

import asyncio
from collections.abc import Coroutine
from typing import Any


async def stop(*tasks: asyncio.Task[None]) -> None:
    """Cancels the tasks and waits until they have ended, whatever they raise."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until_first(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Runs all until one returns or raises; the others are cancelled, and have ended when this returns."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        await stop(*tasks)
