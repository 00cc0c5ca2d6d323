"""The command `python -m kvpool_router`: reads what it is told, opens its ports, serves until it is told to end."""

import argparse
import asyncio
import gc
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop
from kvpool_api.wire import ADMIN_TOKEN_PATH, ROUTER_CONFIG_PATH

from kvpool_router.app import run_router
from kvpool_router.json_logs import log_as_json
from kvpool_router.serve import listen
from kvpool_router.settings import SERVICE_ACCOUNT, SettingsError, load_settings

EXIT_BAD_SETTINGS = 2


def main(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Exit code: 0 after SIGTERM or SIGINT, 2 when the settings do not allow a start."""
    told = _parser().parse_args(arguments)
    try:
        settings = load_settings(told.config, told.admin_token_file, env, told.service_account)
        sockets = listen(settings.http, "http"), listen(settings.admin, "admin")
    except SettingsError as error:
        sys.stderr.write(f"kvpool-router: {error}\n")
        return EXIT_BAD_SETTINGS
    log_as_json(settings.config.pool, sys.stderr)
    # What is loaded by now lives as long as the process: full collections need not look at it.
    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run_router(settings, sockets))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kvpool_router", description="The router of one inference pool.")
    parser.add_argument(
        "--config",
        type=Path,
        default=Path(ROUTER_CONFIG_PATH),
        help="the router's configuration (default: %(default)s)",
    )
    parser.add_argument(
        "--admin-token-file",
        type=Path,
        default=Path(ADMIN_TOKEN_PATH),
        help="file with the token that guards the admin port (default: %(default)s)",
    )
    parser.add_argument(
        "--service-account",
        type=Path,
        default=SERVICE_ACCOUNT,
        help="folder with the token and ca.crt for the cluster's API (default: %(default)s)",
    )
    return parser
