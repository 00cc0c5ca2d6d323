"""Membership from a file: a v1 PodList of the pool's Pods, replaced atomically by whoever runs them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kvpool_router.membership.pods import Members, members_of
from kvpool_router.membership.protocol import Snapshot

LOG = logging.getLogger(__name__)


class _Stamp(NamedTuple):
    """Tells one version of the file from another: a rename gives a new inode, a rewrite a new time or size."""

    inode: int
    mtime_ns: int
    size: int


class FileMembership:
    """Looks at the file's stamp every `poll_s` seconds and reads it only when that has moved.

    A missing, torn or foreign file changes nothing but `trouble`: the last set read stands.
    """

    def __init__(self, path: Path, *, poll_s: float = 0.05) -> None:
        self._path = path
        self._poll_s = poll_s
        self._read: _Stamp | None = None
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        return self._trouble

    async def snapshots(self) -> AsyncIterator[Snapshot]:
        last: Snapshot | None = None
        while True:
            members = self._changed()
            if members is not None and members.snapshot != last:
                last = members.snapshot
                yield last
            await asyncio.sleep(self._poll_s)

    def _changed(self) -> Members | None:
        """What the file says, if it has changed and can be read. It is small and local: read in the loop."""
        try:
            stamp = self._stamp()
            if stamp == self._read:
                return None
            members = _members(self._path.read_bytes())
        except (OSError, ValueError) as error:
            self._report(f"membership file {self._path} cannot be read ({error}); keeping the last known workers")
            return None
        self._read = stamp
        self._report(_left_out(members))
        return members

    def _stamp(self) -> _Stamp:
        stat = self._path.stat()
        return _Stamp(stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def _report(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            LOG.warning(trouble)
        self._trouble = trouble


class _PodList(msgspec.Struct):
    items: list[Any]


def _members(content: bytes) -> Members:
    return members_of(msgspec.json.decode(content, type=_PodList).items)


def _left_out(members: Members) -> str | None:
    return f"pods left out: {'; '.join(members.left_out)}" if members.left_out else None
