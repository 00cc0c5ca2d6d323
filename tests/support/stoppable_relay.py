"""A relay in a process of its own: stopped by a signal, it is a network that swallows everything and closes nothing."""

import multiprocessing
import os
import signal
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class StoppableRelay:
    """Passes on what comes to one address for each target; `events` and `replay` are where it listens."""

    def __init__(self, events: str, replay: str) -> None:
        self._targets = [(urlsplit(target).hostname or "", urlsplit(target).port or 0) for target in (events, replay)]
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in self._targets]
        self.events, self.replay = (f"tcp://127.0.0.1:{each.getsockname()[1]}" for each in self._listeners)

    def __enter__(self) -> Self:
        spawn = multiprocessing.get_context("spawn")
        self._process = spawn.Process(target=_relay, args=(self._listeners, self._targets), daemon=True)
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        for listener in self._listeners:
            listener.close()

    def stop(self) -> None:
        """From now on nothing passes, and no end hears of it."""
        os.kill(self._process.pid or 0, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self._process.pid or 0, signal.SIGCONT)


def _relay(listeners: list[socket.socket], targets: list[tuple[str, int]]) -> None:
    threads = [
        threading.Thread(target=_accept, args=(listener, target))
        for listener, target in zip(listeners, targets, strict=True)
    ]
    for thread in threads:
        thread.start()


def _accept(listener: socket.socket, target: tuple[str, int]) -> None:
    while True:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(target)
        except OSError:
            near.close()
            continue
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while chunk := source.recv(65536):
            sink.sendall(chunk)
    except OSError:
        pass
    for each in (source, sink):
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:
            each.close()
