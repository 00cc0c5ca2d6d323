"""The operator's logs: every logger of the process, kopf's too, in the schema of `kvpool_api.json_logs`."""

import logging
from typing import TextIO

from kvpool_api.json_logs import log_as_json
from kvpool_api.meta import POOL_KIND

from kvpool_operator.log_subject import spoken_of

_LEVELS = {
    "aiohttp.access": logging.WARNING,
    "kopf.activities.probe": logging.WARNING,
    "kopf.objects": logging.WARNING,  # it tells of every event it passes on
    "kubernetes.aio.config": logging.ERROR,  # what it warns of, we say with the mend
}


class PoolNamed(logging.Filter):
    """Names the pool that a line is about: the one whose loop speaks, or the object of which kopf speaks."""

    def filter(self, record: logging.LogRecord) -> bool:
        pool = spoken_of()
        said = getattr(record, "k8s_ref", None) or {}
        if pool is not None:
            record.namespace, record.pool = pool.namespace, pool.name
        elif said.get("kind") == POOL_KIND:
            record.namespace, record.pool = said["namespace"], said["name"]
        return True


def log_to(stream: TextIO) -> None:
    log_as_json({}, stream).addFilter(PoolNamed())
    for name, level in _LEVELS.items():
        logging.getLogger(name).setLevel(level)
