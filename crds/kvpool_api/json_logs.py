"""One JSON object a line: how operator and router log.

    {"time": "2026-01-31T08:00:00.123Z", "level": "info", "logger": "kvpool_operator.act", "message": "…",
     "namespace": "default", "pool": "qwen", "request_id": "…", "worker": "…", "error": "Traceback …"}

The first four are always there; of the others, those that are known. `worker` is pod/rank.
"""

import json
import logging
import time
from collections.abc import Mapping
from typing import TextIO

IDS = ("namespace", "pool", "request_id", "worker")
"""What a line may be about: attributes of its record, set by `extra=` or by a filter."""


class JsonFormatter(logging.Formatter):
    """`time` is RFC 3339 in UTC with milliseconds; `error` holds a traceback. `always` stands in every line."""

    def __init__(self, always: Mapping[str, str]) -> None:
        super().__init__()
        self._always = dict(always)

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
        }
        line |= {name: str(getattr(record, name)) for name in IDS if hasattr(record, name)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json(always: Mapping[str, str], stream: TextIO) -> logging.Handler:
    """Every logger of the process writes to `stream` from now on, at level INFO and above; the writer, for filters."""
    writer = logging.StreamHandler(stream)
    writer.setFormatter(JsonFormatter(always))
    logging.basicConfig(level=logging.INFO, handlers=[writer], force=True)
    return writer
