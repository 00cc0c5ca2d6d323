"""Where load goes: what the options say, else the pool that `kvpool up` runs here."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from kvpool_cli.bench.open_loop import Target
from kvpool_cli.bench.options import TargetOptions
from kvpool_cli.bench.predictions import BLOCK_TOKENS, AdminAccess
from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.runs import RunFolder, RunRecord, running


@dataclass(frozen=True, slots=True)
class Destination:
    """A door that has answered, and the router's admin endpoint where it is known."""

    target: Target
    admin: AdminAccess | None


async def resolve(options: TargetOptions, run_folder: Path) -> Destination:
    """Asks the door for its models.

    Raises UserError when there is none, it does not answer or lacks the model, and for options that do not go together.
    """
    _require_together(options)
    if options.url is None:
        return await _opened(options, *_of_run(_only_run(run_folder), run_folder))
    for option, url in (("--url", options.url), ("--admin-url", options.admin_url)):
        if url is not None and not _is_http(url):
            raise UserError(f"{option} {url}: is no address of a server; write http://HOST:PORT")
    admin = None
    if options.admin_url is not None and options.admin_token_file is not None:
        admin = AdminAccess.from_file(options.admin_url, options.admin_token_file, options.block_size or BLOCK_TOKENS)
    return await _opened(options, options.url, admin)


def _is_http(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65535, a bracket without its other half
        return False


def _require_together(options: TargetOptions) -> None:
    """An option that would be left unread is refused; what it belongs to is named."""
    needs = (
        ("--admin-url", options.admin_url, "--url", options.url),
        ("--admin-url", options.admin_url, "--admin-token-file", options.admin_token_file),
        ("--admin-token-file", options.admin_token_file, "--admin-url", options.admin_url),
        ("--block-size", options.block_size, "--admin-url", options.admin_url),
    )
    for given, value, needed, other in needs:
        if value is not None and other is None:
            raise UserError(f"{given} does nothing without {needed}: give both or neither")


def _only_run(run_folder: Path) -> RunRecord:
    runs = running(run_folder)
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise UserError(
            f"no pool is running here (no record in {run_folder}): start one with `kvpool up FILE`, "
            "name its folder with --run-folder, or name a server with --url"
        )
    raise UserError(
        f"several pools are running here; choose with --url: {', '.join(f'{r.pool} {r.url}' for r in runs)}"
    )


def _of_run(record: RunRecord, run_folder: Path) -> tuple[str, AdminAccess]:
    token_file = RunFolder(run_folder, record.pool).token_file
    return record.url, AdminAccess.from_file(record.admin_url, token_file, record.block_tokens)


async def _opened(options: TargetOptions, url: str, admin: AdminAccess | None) -> Destination:
    target = Target(url, options.model or "", options.api_key, options.timeout_s)
    models = await _models(target)
    model = options.model or models[0]
    if model not in models:
        raise UserError(f"--model {model}: {url} serves {', '.join(models)}", exit_code=FAILED)
    return Destination(Target(url, model, options.api_key, options.timeout_s), admin)


async def _models(target: Target) -> list[str]:
    try:
        async with (
            aiohttp.ClientSession(headers=target.headers, timeout=aiohttp.ClientTimeout(total=30)) as session,
            session.get(f"{target.url.rstrip('/')}/v1/models") as answer,
        ):
            answer.raise_for_status()
            models = [str(model["id"]) for model in (await answer.json())["data"]]
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
        reason = str(error) or type(error).__name__
        raise UserError(
            f"{target.url} does not answer as an OpenAI server: {reason}; start it, or name another with --url",
            exit_code=FAILED,
        ) from None
    if not models:
        raise UserError(f"{target.url} serves no model", exit_code=FAILED)
    return models
