"""Ports for servers of tests, from below those that the kernel gives to connections."""

import random
import socket


def free_port() -> int:
    """Free a moment ago, and unlikely to be taken by chance."""
    while True:
        port = random.randint(15_000, 30_000)
        with socket.socket() as trial:
            try:
                trial.bind(("0.0.0.0", port))
            except OSError:
                continue
        return port
