"""`kvpool up` inside the tests' own process, its children real: what the command does is seen by coverage too."""

import re
import signal
import sys
import threading
import time
from contextlib import suppress

import pytest
from kvpool_cli.errors import UserError
from kvpool_cli.explain import Asked, explain
from kvpool_cli.places import here
from kvpool_cli.runs import RunFolder
from kvpool_cli.status import status
from kvpool_cli.up.command import UpOptions, up
from up_process import free_port, manifest, write


def options(tmp_path, *manifests, **told):
    defaults = {
        "file": write(tmp_path / "pool.yaml", *manifests),
        "engine": "sim",
        "port": free_port(29_000),
        "once_ready": None,
        "shown": "lines",
        "timeout_s": 60,
        "vllm_python": None,
        "run_folder": tmp_path / "run",
        "status_command": "kvpool status",
    }
    return UpOptions(**(defaults | told))


def test_a_command_runs_once_the_pool_is_ready_and_its_exit_code_is_the_answer(tmp_path, capfd):
    command = 'echo "the model is $KVPOOL_MODEL at $KVPOOL_URL"; sleep 1.5; exit 5'
    assert up(options(tmp_path, manifest(replicas=1), once_ready=command)) == 5
    said = capfd.readouterr().out
    assert "is ready: http://127.0.0.1:" in said
    assert "the model is meta-llama/Llama-3.1-8B-Instruct at http://127.0.0.1:" in said
    assert RunFolder(tmp_path / "run", "pool").record() is None


def test_a_signal_ends_a_ready_pool_while_status_still_sees_it(tmp_path, capfd):
    codes = []

    def interrupt():
        folder = RunFolder(tmp_path / "run", "pool")
        deadline = time.monotonic() + 60
        while not codes or codes[-1] != 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            if folder.record() is not None:
                codes.append(status("pool", here(tmp_path / "run")))
        signal.raise_signal(signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert up(options(tmp_path, manifest(replicas=1))) == 130
    thread.join()
    assert codes[-1] == 0


def test_a_request_to_a_running_pool_is_explained_by_what_each_engine_would_have_cost(tmp_path, capfd):
    run = tmp_path / "run"
    ask = (
        "import json, os, urllib.request as r; "
        'body = json.dumps({"model": os.environ["KVPOOL_MODEL"], "prompt": "once " * 500, "max_tokens": 2}).encode(); '
        'told = {"content-type": "application/json", "x-request-id": "the-one"}; '
        'r.urlopen(r.Request(os.environ["KVPOOL_URL"] + "/v1/completions", body, told)).read()'
    )
    told = []

    def explained():
        deadline = time.monotonic() + 60
        while not told:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            with suppress(UserError):
                told.append(explain(Asked("the-one", "pool", 5), here(run)))
        (run / "done").touch()

    thread = threading.Thread(target=explained)
    thread.start()
    (tmp_path / "ask.py").write_text(ask)
    wait = f"until [ -e {run / 'done'} ]; do sleep 0.1; done"
    assert (
        up(options(tmp_path, manifest(replicas=2), once_ready=f"{sys.executable} {tmp_path / 'ask.py'} && {wait}")) == 0
    )
    thread.join()
    said = capfd.readouterr().out
    assert "the-one  /v1/completions" in said
    assert "by CacheAware: least cost" in said
    assert all(re.search(rf"-{slot} +\d", said) for slot in (0, 1))


def test_a_pool_that_is_late_is_a_users_error_with_its_cause(tmp_path):
    slow = manifest(replicas=1, engine={"env": [{"name": "KVPOOL_SIM_START_DELAY", "value": "60"}]})
    with pytest.raises(UserError, match="not ready after 3 s: pool: ") as caught:
        up(options(tmp_path, slow, timeout_s=3))
    assert caught.value.exit_code == 1


def test_edits_of_the_file_are_taken_up_or_refused_while_the_pool_runs(tmp_path, capfd):
    told = options(tmp_path, manifest(replicas=1))
    folder, said = RunFolder(tmp_path / "run", "pool"), []

    def until(condition):
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def heard(words):
        found = capfd.readouterr()
        said.append(found.out + found.err)
        return words in "".join(said)

    def edit():
        try:
            until(lambda: folder.record() is not None)
            write(told.file, manifest(replicas=0))
            until(lambda: heard("has changed: pool: spec.replicas: 1 -> 0"))
            write(told.file, manifest(replicas=0, model={"name": "another"}))
            until(lambda: heard("spec.model.name"))
            write(told.file, manifest(replicas=0), manifest("two"))
            until(lambda: heard("(two would be new)"))
            write(told.file, {**manifest(), "metadata": {"name": "pool", "namespace": "other"}})
            until(lambda: heard("(a namespace differs)"))
        finally:
            signal.raise_signal(signal.SIGTERM)

    thread = threading.Thread(target=edit)
    thread.start()
    assert up(told) == 130
    thread.join()
    assert "(a namespace differs)" in "".join(said)
