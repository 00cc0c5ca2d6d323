"""`python -m kvpool_router`: the router of one inference pool."""

import os
import signal
import sys

if __name__ == "__main__":
    # Before the slow imports: the first process of a container is not ended by a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from kvpool_router.command import main

    sys.exit(main(sys.argv[1:], os.environ))
