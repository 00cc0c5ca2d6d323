import io
import json
import logging
import re

import pytest
from kvpool_router.json_logs import log_as_json
from kvpool_router.workers import WorkerId


@pytest.fixture
def lines():
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    stream = io.StringIO()
    log_as_json("qwen", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)


def test_a_line_has_time_level_logger_message_pool_and_what_the_record_knows(lines):
    logging.getLogger("kvpool.x").warning("moved %d", 3, extra={"request_id": "r1", "worker": WorkerId("a", 1)})
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "warning",
        "logger": "kvpool.x",
        "message": "moved 3",
        "pool": "qwen",
        "request_id": "r1",
        "worker": "a/1",
    }


def test_an_error_brings_its_traceback_on_the_same_line(lines):
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        logging.getLogger("kvpool.x").exception("failed")
    (line,) = lines()
    assert "ValueError: bad\nthing" in line["error"]


def test_debug_is_not_written(lines):
    logging.getLogger("kvpool.x").debug("detail")
    assert lines() == []
