"""`python -m kvpool_operator`: runs the inference pools of a cluster, or of some of its namespaces."""

import os
import signal
import sys

if __name__ == "__main__":
    # The first process of a container is not ended by a signal that it has no handler for: a SIGTERM that came while
    # the imports are under way, seconds on a busy node, would be lost, and the Pod would wait for the end of its grace.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    from kvpool_operator.command import main

    sys.exit(main(sys.argv[1:], os.environ))
