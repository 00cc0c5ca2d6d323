"""Logs as one JSON object a line: time, level, logger, message, pool, and request_id and worker where known."""

import json
import logging
import time
from typing import TextIO

EXTRA_FIELDS = ("request_id", "pool", "worker")


class JsonFormatter(logging.Formatter):
    """`time` is RFC 3339 in UTC with milliseconds; `error` holds a traceback. `pool` is the same on every line."""

    def __init__(self, pool: str) -> None:
        super().__init__()
        self._pool = pool

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pool": self._pool,
        }
        line |= {field: str(getattr(record, field)) for field in EXTRA_FIELDS if hasattr(record, field)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json(pool: str, stream: TextIO) -> None:
    """Every logger of the process writes to `stream` from now on, at level INFO and above."""
    writer = logging.StreamHandler(stream)
    writer.setFormatter(JsonFormatter(pool))
    logging.basicConfig(level=logging.INFO, handlers=[writer], force=True)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
