"""The router's logs: the schema of `kvpool_api.json_logs`, with the pool on every line."""

import logging
from typing import TextIO

from kvpool_api import json_logs


def log_as_json(pool: str, stream: TextIO) -> None:
    """Every logger of the process writes to `stream` from now on, at level INFO and above."""
    json_logs.log_as_json({"pool": pool}, stream)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    hub = logging.getLogger("huggingface_hub")
    # Its client brings a writer of plain text. What comes of its tries is told by who asked; each try would drown that.
    hub.handlers.clear()
    hub.setLevel(logging.ERROR)
    logging.getLogger("httpx2").setLevel(logging.WARNING)
