"""The command `python -m kvpool_operator`: what it reads, and how it ends."""

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping, Sequence

from kvpool_operator.runtime.logs import log_to
from kvpool_operator.runtime.options import Options, StartError, read_options
from kvpool_operator.runtime.run import run

LOG = logging.getLogger("kvpool_operator")
EXIT_FAILED = 1
EXIT_CANNOT_START = 2


def main(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Exit code: 0 after SIGTERM or SIGINT, 1 after a fault of ours, 2 when it cannot start."""
    log_to(sys.stderr)
    try:
        asyncio.run(_until_told_to_end(read_options(arguments, env)))
    except StartError as error:
        sys.stderr.write(f"kvpool-operator: {error}\n")
        return EXIT_CANNOT_START
    except asyncio.CancelledError:
        return 0
    except Exception as error:
        LOG.error("the operator ends by a fault", exc_info=error)
        return EXIT_FAILED
    return 0


async def _until_told_to_end(options: Options) -> None:
    """Signals break the start off; once kopf runs, it takes them over."""
    starting = asyncio.current_task()
    assert starting is not None  # noqa: S101 - a coroutine of asyncio.run is a task
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, starting.cancel)
    await run(options)
