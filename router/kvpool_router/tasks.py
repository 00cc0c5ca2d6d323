"""Two ways to end tasks, and one to leave a thread behind."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


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


async def aside(call: Callable[[], T]) -> T:
    """The call's answer, from a thread of its own that no end of the process waits for.

    The threads of the loop's executor are joined at the end: one that waits for a network without an answer would hold
    up SIGTERM until the process is killed.
    """
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)
