import io
import json
import logging
import re

import huggingface_hub.utils.logging  # noqa: F401 - what it sets up at its import is what is to be undone
import pytest
from kvpool_router.json_logs import log_as_json
from kvpool_router.workers import WorkerId


@pytest.fixture
def lines():
    loggers = [logging.getLogger(name) for name in (None, "uvicorn", "huggingface_hub", "httpx2")]
    before = [(each, list(each.handlers), each.level) for each in loggers]
    stream = io.StringIO()
    log_as_json("qwen", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)


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


def test_the_hubs_client_writes_no_plain_text_beside_the_lines(lines, capfd):
    hub = logging.getLogger("huggingface_hub.utils._http")
    hub.warning("Retrying in 1s [Retry 1/5].")
    hub.error("broken")
    assert [line["message"] for line in lines()] == ["broken"]
    assert capfd.readouterr().err == ""
