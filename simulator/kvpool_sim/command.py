"""The command `python -m kvpool_sim`."""

import os
import sys

import uvloop

from kvpool_sim.arguments import SettingsError
from kvpool_sim.process import AddressRefused, serve
from kvpool_sim.settings import parse

EXIT_USAGE = 2
EXIT_ADDRESS = 98
"""The number of EADDRINUSE, so that who starts engines can tell a taken port from a wrong argument."""


def main() -> int:
    try:
        settings, ignored = parse(sys.argv[1:], os.environ)
        if ignored:
            sys.stderr.write(f"a simulated engine has no use for {' '.join(ignored)}\n")
        uvloop.run(serve(settings))
    except AddressRefused as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_ADDRESS
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_USAGE
    return 0
