"""Addresses for Pods: 127.0.0.0/8 belongs to this machine, so every Pod can have one and use the ports of a cluster."""

import errno
import random
import socket
from collections.abc import Iterator

from kvpool_operator.cluster.local.errors import PortInUse, Unsupported


class LoopbackBlock:
    """Addresses `127.a.*.*` that no other local cluster on this machine uses.

    The block is reserved by the name of an abstract Unix socket: the kernel frees it when this process ends, however.
    """

    def __init__(self, chance: random.Random) -> None:
        self._reservation, self._prefix = _reserved(chance)
        self._used: set[str] = set()
        self._next = self._hosts()

    def take(self) -> str:
        """An address that no Pod has; one just released comes back last. There are more than Pods can ever be."""
        address = next(address for address in self._next if address not in self._used)
        self._used.add(address)
        return address

    def release(self, address: str) -> None:
        self._used.discard(address)

    def close(self) -> None:
        self._reservation.close()

    def _hosts(self) -> Iterator[str]:
        while True:
            yield from (f"{self._prefix}.{high}.{low}" for high in range(256) for low in range(1, 255))


def is_free(host: str, port: int) -> bool:
    """Whether a program could listen there now; false also where another listens on all addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                return False
            raise
    return True


def require_free(host: str, port: int, *, what: str) -> None:
    """Raise PortInUse, for the user to choose another port."""
    if not is_free(host, port):
        raise PortInUse(f"port {port} on {host} ({what}) is in use by another program; stop it, or choose another port")


def _reserved(chance: random.Random) -> tuple[socket.socket, str]:
    for block in chance.sample(range(16, 240), k=224):
        prefix = f"127.{block}"
        reservation = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            reservation.bind(f"\0kvpool-local-cluster-{prefix}")
        except OSError:
            reservation.close()
        else:
            return reservation, prefix
    raise Unsupported("no block of loopback addresses could be reserved; stop other local pools")
