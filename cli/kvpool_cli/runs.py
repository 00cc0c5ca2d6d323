"""Pools that run on this machine: what `kvpool up` leaves in a folder a pool, so that other terminals find it.

<run folder>/<pool>/run.json      who runs it and where it answers (RunRecord)
                    seen.json     the pool and its engine Pods as they were last seen (Seen), renewed while it runs
                    admin-token   for the router's admin endpoint, readable by its owner alone
                    up.lock       held by the process that runs it (`run_lock`)
                    logs/         one file a Pod; all pools of a file have theirs in the first one's folder
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from kvpool_api.pool import InferencePool
from pydantic import BaseModel, ConfigDict, ValidationError

from kvpool_cli.engine_pods import EnginePod

TOKEN_FILE = "admin-token"  # noqa: S105 - a file's name


class RunRecord(BaseModel):
    """One running pool."""

    model_config = ConfigDict(frozen=True)

    pool: str
    namespace: str
    manifest: str
    engine: str
    pid: int
    """The process that runs it; its end ends the pool."""
    pid_started: str
    """When that process began, in the kernel's ticks: another process may get its number later."""
    url: str
    admin_url: str
    model: str
    block_tokens: int

    @property
    def alive(self) -> bool:
        return process_start(self.pid) == self.pid_started


class Seen(BaseModel):
    """A pool at one moment, as the process that runs it knew it."""

    model_config = ConfigDict(frozen=True)

    at: float
    """Seconds since the epoch."""
    pool: InferencePool
    pods: Mapping[str, EnginePod]
    """Engine Pods that exist, by name."""


class RunFolder:
    """One pool's folder below `root`."""

    def __init__(self, root: Path, pool: str) -> None:
        self.path = root / pool

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def lock_file(self) -> Path:
        return self.path / "up.lock"

    @property
    def token_file(self) -> Path:
        return self.path / TOKEN_FILE

    def make(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)

    def write_record(self, record: RunRecord, token: str) -> None:
        self.make()
        self.token_file.unlink(missing_ok=True)
        with os.fdopen(os.open(self.token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token)
        _replace(self.path / "run.json", record.model_dump_json(indent=2))

    def write_seen(self, pool: InferencePool, pods: Mapping[str, EnginePod]) -> None:
        seen = Seen(at=time.time(), pool=pool, pods=pods)
        _replace(self.path / "seen.json", seen.model_dump_json(by_alias=True))

    def record(self) -> RunRecord | None:
        """None where nothing was started, or where the folder is of another release."""
        try:
            return RunRecord.model_validate_json((self.path / "run.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def seen(self) -> Seen | None:
        """None where it was not looked at yet, or by another release."""
        try:
            return Seen.model_validate_json((self.path / "seen.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def clear(self, pid: int) -> None:
        """The pool that the process `pid` ran here has ended: only its logs stay. Another's record is left alone."""
        record = self.record()
        if record is not None and record.pid != pid and record.alive:
            return
        for name in ("run.json", "seen.json", TOKEN_FILE):
            (self.path / name).unlink(missing_ok=True)


def running(root: Path) -> list[RunRecord]:
    """Pools whose process lives, by name."""
    return [record for record in _records(root) if record.alive]


def left_behind(root: Path) -> list[RunRecord]:
    """Pools whose process was killed before it could take its record away, by name."""
    return [record for record in _records(root) if not record.alive]


def _records(root: Path) -> list[RunRecord]:
    if not root.is_dir():
        return []
    records = (RunFolder(root, path.name).record() for path in sorted(root.iterdir()))
    return [record for record in records if record is not None]


def process_start(pid: int) -> str | None:
    """When the process began, in ticks since the machine did; None where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def _replace(path: Path, text: str) -> None:
    """Atomically: a reader sees the old text or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)
