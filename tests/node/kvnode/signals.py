"""What is told to end undoes first what it did: by itself Python dies of SIGTERM and a closed terminal on the spot."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AS_CTRL_C = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def unwinding() -> Iterator[None]:
    """In the block they raise KeyboardInterrupt, as Ctrl-C does. Only for the main thread.

    What somebody asked to be ignored (nohup) stays ignored.
    """
    ours = [number for number in AS_CTRL_C if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not cut the block short, nor the programs that are started in it."""
    if threading.current_thread() is not threading.main_thread():  # no signal interrupts another one
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, *AS_CTRL_C)}
    try:
        yield
    finally:
        for number, what in before.items():
            signal.signal(number, what or signal.SIG_DFL)
