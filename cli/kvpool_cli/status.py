"""`kvpool status`: the pools that run on this machine, from any terminal."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from kvpool_api.pool import InferencePool

from kvpool_cli.errors import UserError
from kvpool_cli.render import console, status_report
from kvpool_cli.router_facts import read_router
from kvpool_cli.runs import RunFolder, RunRecord, Seen, left_behind, running
from kvpool_cli.view import PoolView, view

READY, NOT_READY = 0, 1
FRESH_S = 5.0
"""The process that runs a pool looks at it each second; one that is silent for longer is busy, stopped or hung."""


def status(pool: str | None, run_folder: Path) -> int:
    """Prints each pool, or the one named. Exit code 0 when all are ready, 1 when one is not.

    Raises UserError (exit code 2) when none runs.
    """
    records, out = _chosen(pool, run_folder), console()
    views = asyncio.run(_views(records, run_folder))
    for record, found in zip(records, views, strict=True):
        out.print(*status_report(found), *_silence(record, run_folder), sep="\n")
    if pool is None:
        for ended in left_behind(run_folder):
            out.print(_ended(ended), soft_wrap=True, highlight=False, markup=False)
    return READY if all(found.ready for found in views) else NOT_READY


def _silence(record: RunRecord, run_folder: Path) -> Sequence[str]:
    seen = RunFolder(run_folder, record.pool).seen()
    old_s = 0.0 if seen is None else time.time() - seen.at
    told = f"conditions and engines' states are {old_s:.0f} s old: process {record.pid} has not looked since"
    return [told] if old_s > FRESH_S else []


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


async def _views(records: list[RunRecord], run_folder: Path) -> list[PoolView]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        return [await _view(session, record, RunFolder(run_folder, record.pool)) for record in records]


async def _view(session: aiohttp.ClientSession, record: RunRecord, folder: RunFolder) -> PoolView:
    facts = await read_router(session, record.admin_url, _token(folder))
    seen = folder.seen() or _not_seen(record)
    return view(seen.pool, facts, seen.pods, record.url)


def _not_seen(record: RunRecord) -> Seen:
    pool = {"metadata": {"name": record.pool, "generation": 1}, "spec": {"model": {"name": record.model}}}
    return Seen(at=time.time(), pool=InferencePool.model_validate(pool), pods={})


def _token(folder: RunFolder) -> str:
    try:
        return folder.token_file.read_text()
    except OSError:
        return ""
