import subprocess
import sys

import pytest
from kvpool_router.tasks import aside

HUNG = """
import asyncio, threading
from kvpool_router.tasks import aside
async def main():
    call = asyncio.create_task(aside(threading.Event().wait))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
with asyncio.Runner() as runner:
    runner.run(main())
"""


async def test_an_answer_or_an_error_comes_back_from_the_thread():
    assert await aside(lambda: 7) == 7
    with pytest.raises(KeyError):
        await aside({}.popitem)


def test_a_call_that_never_ends_holds_up_no_end_of_the_process():
    assert subprocess.run([sys.executable, "-c", HUNG], timeout=60, check=False).returncode == 0
