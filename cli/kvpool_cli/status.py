"""`kvpool status`: the pools that run on this machine, from any terminal."""

import asyncio
from pathlib import Path

import aiohttp
from kvpool_api.pool import InferencePool

from kvpool_cli.errors import UserError
from kvpool_cli.render import console, status_report
from kvpool_cli.router_facts import read_router
from kvpool_cli.runs import RunFolder, RunRecord, running
from kvpool_cli.view import PoolView, view

READY, NOT_READY = 0, 1


def status(pool: str | None, run_folder: Path) -> int:
    """Prints each pool, or the one named. Exit code 0 when all are ready, 1 when one is not.

    Raises UserError (exit code 2) when none runs.
    """
    views = asyncio.run(_views(_chosen(pool, run_folder), run_folder))
    out = console()
    for found in views:
        out.print(*status_report(found), sep="\n")
    return READY if all(found.ready for found in views) else NOT_READY


def _chosen(pool: str | None, run_folder: Path) -> list[RunRecord]:
    runs = running(run_folder)
    chosen = [record for record in runs if pool in (None, record.pool)]
    if chosen:
        return chosen
    if pool is not None and runs:
        raise UserError(f"no pool {pool} is running here, but {', '.join(record.pool for record in runs)}")
    raise UserError(f"no pool is running here (no record in {run_folder}): start one with `kvpool up FILE`")


async def _views(records: list[RunRecord], run_folder: Path) -> list[PoolView]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=3)) as session:
        return [await _view(session, record, RunFolder(run_folder, record.pool)) for record in records]


async def _view(session: aiohttp.ClientSession, record: RunRecord, folder: RunFolder) -> PoolView:
    pool = folder.pool()
    facts = await read_router(session, record.admin_url, _token(folder))
    return view(pool or _not_seen(record), facts, {}, record.url)


def _not_seen(record: RunRecord) -> InferencePool:
    return InferencePool.model_validate(
        {"metadata": {"name": record.pool, "generation": 1}, "spec": {"model": {"name": record.model}}}
    )


def _token(folder: RunFolder) -> str:
    try:
        return folder.token_file.read_text()
    except OSError:
        return ""
