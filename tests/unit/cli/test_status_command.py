import asyncio
import json
import threading
from contextlib import contextmanager
from functools import partial

import pytest
from aiohttp import web
from kvpool_cli import status as command
from kvpool_cli.engine_pods import EnginePod
from kvpool_cli.errors import UserError
from kvpool_cli.found import Found, FoundPool
from kvpool_cli.found_here import found_here
from kvpool_cli.router_facts import RouterFacts
from kvpool_cli.runs import RunFolder
from pool_facts import READY, condition, facts, pool, worker
from run_records import record

GIVEN = "given"


def status(pool, run_folder, **told):
    return command.status(pool, partial(found_here_in, run_folder), **told)


async def found_here_in(run_folder, pool, decisions):
    return await found_here(pool, run_folder, decisions)


@contextmanager
def admin_endpoint(state, status_code=200):
    """An admin endpoint in a thread, since the command brings its own event loop."""
    loop, ready, stop, port = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), []

    async def answer(request):
        known = request.headers.get("X-Kvpool-Token") == GIVEN
        is_state = request.path == "/state"
        text = state.model_dump_json(by_alias=True) if is_state else '{"router": "r", "decisions": []}'
        return web.json_response(text=text, status=status_code if known else 401)

    async def serve():
        app = web.Application()
        app.router.add_get("/{any}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port.append(runner.addresses[0][1])
        ready.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    try:
        yield f"http://127.0.0.1:{port[0]}"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


def recorded(tmp_path, found, admin_url="http://127.0.0.1:1", given=GIVEN, pods=None):
    folder = RunFolder(tmp_path, "qwen")
    folder.write_record(record().model_copy(update={"admin_url": admin_url}), given)
    if found is not None:
        folder.write_seen(found, pods or {})
    return folder


def test_a_ready_pool_is_exit_code_0_with_its_workers(tmp_path, capsys):
    with admin_endpoint(facts(worker()).state) as url:
        recorded(tmp_path, pool(READY), url)
        assert status(None, tmp_path) == 0
    shown = capsys.readouterr().out
    assert "1,234" in shown
    assert "AllReady" in shown


def test_a_pool_that_is_not_ready_is_exit_code_1_and_says_why(tmp_path, capsys):
    recorded(tmp_path, pool(condition("Ready", "False", "ImagePull", "not found.")))
    assert status("qwen", tmp_path) == 1
    assert "ImagePull: not found." in capsys.readouterr().out


def test_a_pool_that_has_just_been_started_is_not_ready_yet(tmp_path, capsys):
    recorded(tmp_path, None).token_file.unlink()
    assert status("qwen", tmp_path) == 1
    assert "the operator has not looked at it yet" in capsys.readouterr().out


def test_no_pool_is_exit_code_2_with_what_to_do(tmp_path):
    with pytest.raises(UserError, match="kvpool up FILE") as caught:
        status(None, tmp_path)
    assert caught.value.exit_code == 2


def test_another_pool_than_those_that_run_is_named_with_them(tmp_path):
    recorded(tmp_path, pool(READY))
    with pytest.raises(UserError, match="no pool nope is running here, but qwen"):
        status("nope", tmp_path)


def test_a_wrong_token_shows_what_is_known_without_the_router(tmp_path, capsys):
    with admin_endpoint(facts(worker()).state) as url:
        recorded(tmp_path, pool(READY), url, given="wrong")
        assert status(None, tmp_path) == 0
    assert "1,234" not in capsys.readouterr().out


def test_an_engine_that_has_just_died_is_not_shown_ready_though_its_router_thinks_so(tmp_path, capsys):
    dead = {"qwen-1-0": EnginePod(state="Error", cause="qwen-1-0: killed.")}
    with admin_endpoint(facts(worker(), worker("qwen-1-1")).state) as url:
        recorded(tmp_path, pool(READY), url, pods=dead)
        status(None, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:2] == ["1-0", "Error"] for line in lines)
    assert any(line.split()[:2] == ["1-1", "ready"] for line in lines)
    assert "qwen-1-0: killed." in lines


def test_a_pool_whose_process_was_killed_is_said_to_have_ended_with_the_mend(tmp_path):
    ended = record().model_copy(update={"pid_started": "1"})
    RunFolder(tmp_path, "qwen").write_record(ended, "")
    said = f"pool qwen is not running: process {ended.pid}, which ran it, was killed; start it again with `kvpool up"
    for name in (None, "qwen"):
        with pytest.raises(UserError, match=said):
            status(name, tmp_path)
    with pytest.raises(UserError, match=r"no pool is running here .*--run-folder"):
        status("other", tmp_path)


def test_a_killed_run_is_named_beside_the_pools_that_run(tmp_path, capsys):
    RunFolder(tmp_path, "old").write_record(record("old").model_copy(update={"pid_started": "1"}), "")
    recorded(tmp_path, pool(READY))
    assert status(None, tmp_path) == 0
    assert "pool old is not running: process" in capsys.readouterr().out
    status("qwen", tmp_path)
    assert "pool old" not in capsys.readouterr().out


def test_what_has_not_been_looked_at_for_long_says_so(tmp_path, capsys, monkeypatch):
    recorded(tmp_path, pool(READY))
    monkeypatch.setattr("kvpool_cli.found_here.FRESH_S", -1.0)
    status(None, tmp_path)
    assert f"are 0 s old: process {record().pid} has not looked since" in capsys.readouterr().out


def test_json_says_what_the_table_says(tmp_path, capsys):
    with admin_endpoint(facts(worker()).state) as url:
        recorded(tmp_path, pool(READY), url)
        assert status(None, tmp_path, as_json=True) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["name"], told["namespace"], told["ready"], told["standing"]) == ("qwen", "default", True, "ready")
    assert (told["workers"][0]["name"], told["workers"][0]["blocks"], told["notes"]) == ("qwen-1-0", 1234, [])
    assert told["served"]["hit_percent"] == 60.0
    assert told["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"


def test_a_note_that_the_causes_tell_already_is_not_told_twice(capsys):
    silent = RouterFacts(trouble="the router is silent")

    async def place(pool_name, decisions):
        return Found((FoundPool(pool(READY), {}, silent, notes=("the router is silent", "and more")),))

    assert command.status(None, place) == 0
    shown = capsys.readouterr().out
    assert shown.count("the router is silent") == 1
    assert "and more" in shown
