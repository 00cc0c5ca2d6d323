"""The pools that run on this machine, from their records."""

import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from kvpool_api.pool import InferencePool

from kvpool_cli.errors import UserError
from kvpool_cli.found import Found, FoundPool
from kvpool_cli.router_facts import LAST_DECISIONS, read_router
from kvpool_cli.runs import RunFolder, RunRecord, Seen, left_behind, running

FRESH_S = 5.0
"""The process that runs a pool looks at it each second; one that is silent for longer is busy, stopped or hung."""


async def found_here(pool: str | None, run_folder: Path, decisions: int = LAST_DECISIONS) -> Found:
    """The one that is named, or all. Raises UserError (exit code 2) when none runs."""
    records = _chosen(pool, run_folder)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        pools = [await _found(session, record, run_folder, decisions) for record in records]
    ended = [] if pool is not None else [_ended(record) for record in left_behind(run_folder)]
    return Found(tuple(pools), tuple(ended))


def _chosen(pool: str | None, run_folder: Path) -> list[RunRecord]:
    runs = running(run_folder)
    if chosen := [record for record in runs if pool in (None, record.pool)]:
        return chosen
    if ended := [record for record in left_behind(run_folder) if pool in (None, record.pool)]:
        raise UserError("; ".join(map(_ended, ended)))
    if runs:
        raise UserError(f"no pool {pool} is running here, but {', '.join(record.pool for record in runs)}")
    raise UserError(
        f"no pool is running here (no record in {run_folder}): start one with `kvpool up FILE`, "
        "or name the folder of its `kvpool up` with --run-folder"
    )


def _ended(record: RunRecord) -> str:
    return (
        f"pool {record.pool} is not running: process {record.pid}, which ran it, was killed; "
        f"start it again with `kvpool up {record.manifest}`"
    )


async def _found(session: aiohttp.ClientSession, record: RunRecord, run_folder: Path, decisions: int) -> FoundPool:
    folder = RunFolder(run_folder, record.pool)
    facts = await read_router(session, record.admin_url, _token(folder), decisions)
    seen = folder.seen()
    known = seen or _not_seen(record)
    return FoundPool(known.pool, known.pods, facts, record.url, tuple(_silence(record, seen)))


def _silence(record: RunRecord, seen: Seen | None) -> Sequence[str]:
    old_s = 0.0 if seen is None else time.time() - seen.at
    told = f"conditions and engines' states are {old_s:.0f} s old: process {record.pid} has not looked since"
    return [told] if old_s > FRESH_S else []


def _not_seen(record: RunRecord) -> Seen:
    pool = {"metadata": {"name": record.pool, "generation": 1}, "spec": {"model": {"name": record.model}}}
    return Seen(at=time.time(), pool=InferencePool.model_validate(pool), pods={})


def _token(folder: RunFolder) -> str:
    try:
        return folder.token_file.read_text()
    except OSError:
        return ""
