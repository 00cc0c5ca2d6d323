"""Where a local cluster keeps what its Pods need on disk, held by one run at a time."""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO

from kvpool_operator.cluster.local.errors import RunDirUnusable
from kvpool_operator.cluster.local.leftovers import sweep
from kvpool_operator.cluster.local.manifests import namespace_of
from kvpool_operator.cluster.seam import Manifest
from kvpool_operator.manifests import name_of, uid_of

LONGEST_SOCKET_PATH = 90


class RunDir:
    """The folder of one run.

    logs/<pod>.log    stays after the run, until the next one
    pods/             volumes of Pods: Secrets too, so only this user may look; removed with the Pod
    members/          who is in each pool, for its routers
    lock              held while the run lives; names its process
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.logs = self.path / "logs"
        self.pods = self.path / "pods"
        self.members = self.path / "members"
        self._lock: IO[str] | None = None
        self._sockets: Path | None = None

    @property
    def mark(self) -> str:
        """What every process of the run carries in its environment."""
        return str(self.path)

    @property
    def sockets(self) -> Path:
        """A folder with a short path, for a socket's path may have 107 characters."""
        if self._sockets is None:
            self._sockets = Path(tempfile.mkdtemp(prefix="kvp-"))
            if len(str(self._sockets)) > LONGEST_SOCKET_PATH:
                raise RunDirUnusable(f"{self._sockets} is too long a path for sockets; set TMPDIR to a shorter one")
        return self._sockets

    def open(self) -> None:
        """Take the folder over from whoever held it and died. Raises RunDirUnusable."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("a+")
            self._hold(self._lock)
            sweep(self.mark)
            for folder in (self.logs, self.pods, self.members):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(mode=0o700)
        except OSError as error:
            self.close()
            told = f"run directory {self.path} cannot be used: {error.strerror or error}"
            raise RunDirUnusable(f"{told}; make it writable, or choose another") from error

    def close(self) -> None:
        """Remove what only a running cluster needs; logs stay."""
        for folder in (self.pods, self.members, *([self._sockets] if self._sockets else [])):
            shutil.rmtree(folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def of_pod(self, pod: Manifest) -> Path:
        return self.pods / f"{namespace_of(pod)}.{name_of(pod)}.{uid_of(pod)[:8]}"

    def log_of(self, pod: Manifest, container: str, *, is_first: bool) -> Path:
        return self.logs / (f"{name_of(pod)}.log" if is_first else f"{name_of(pod)}.{container}.log")

    def _hold(self, lock: IO[str]) -> None:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            self._lock = None
            raise RunDirUnusable(
                f"run directory {self.path} is held by process {holder}; stop that one, or choose another directory"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
