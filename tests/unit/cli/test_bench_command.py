import asyncio
import json
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from kvpool_cli.bench.command import BenchOptions, Measured, bench
from kvpool_cli.bench.open_loop import Tally
from kvpool_cli.bench.options import LoadOptions, ReportOptions, SharedPrefixOptions, TargetOptions, TraceOptions
from kvpool_cli.bench.outcome import Outcome
from kvpool_cli.bench.progress import show_progress
from kvpool_cli.bench.stream import Usage
from kvpool_cli.bench.target import resolve
from kvpool_cli.errors import UserError
from kvpool_cli.runs import RunFolder
from openai_stub import Stub, running
from rich.console import Console
from run_records import record

LOAD = {
    "groups": 2,
    "prompts_per_group": 2,
    "system_tokens": 64,
    "question_tokens": 16,
    "output_tokens": 3,
    "rate_per_s": 40,
}


def options(run_folder, target, *, trace=None, **report):
    load = LoadOptions(trace=trace) if trace else LoadOptions(seconds=0.3)
    profile = SharedPrefixOptions() if trace else SharedPrefixOptions(**LOAD)
    return BenchOptions(load, TraceOptions(), profile, target, ReportOptions(**report), run_folder)


@contextmanager
def served(stub):
    """The stub in a thread of its own, since the command brings its own event loop."""
    loop, ready, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()

    async def serve():
        async with running(stub):
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert ready.wait(5)
    try:
        yield stub
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(5)
        loop.close()


def test_a_profile_ends_in_a_table_and_exit_code_0(tmp_path, capsys):
    with served(Stub(cached=48)) as stub:
        code = bench(options(tmp_path, TargetOptions(url=stub.url), plot=tmp_path / "p.svg"))
    shown = capsys.readouterr()
    assert code == 0
    assert "60.0 % of prompt tokens" in shown.out
    assert " s to http://127.0.0.1" in shown.err
    assert (shown.out + shown.err).count("shared prefixes: 2 groups") == 1
    assert (tmp_path / "p.svg").exists()
    assert {len(body["prompt"]) for body in stub.bodies} == {80}


def test_json_alone_stands_on_stdout(tmp_path, capsys):
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"timestamp": 3, "input_length": 20, "output_length": 2, "hash_ids": [7]}\n')
    with served(Stub()) as stub:
        code = bench(options(tmp_path, TargetOptions(url=stub.url), trace=trace, as_json=True))
    found = json.loads(capsys.readouterr().out)
    assert code == 0
    assert (found["requests"], found["errors"], found["prompt_tokens"]) == (1, 0, 20)


def test_a_pool_that_refuses_everything_is_exit_code_1(tmp_path, capsys):
    with served(Stub(refuse=503)) as stub:
        assert bench(options(tmp_path, TargetOptions(url=stub.url))) == 1
    shown = capsys.readouterr()
    assert "HTTP 503: Overloaded" in shown.out
    assert "requests failed, 100 %; --max-error-rate allows 0 %" in shown.err


@pytest.mark.parametrize(("allowed", "code"), [(0, 1), (5, 1), (7, 0), (100, 0)])
def test_one_failed_request_is_exit_code_1_unless_as_many_may_fail(tmp_path, capsys, monkeypatch, allowed, code):
    async def one_fails(self, *_):
        done = Outcome(0.0, 0.0, 0.1, 0.2, usage=Usage(10, 2, None))
        failed = Outcome(0.0, 0.0, None, 0.2, error="timed out")
        self.tally.outcomes += [failed, *[done] * (self.tally.planned - 1)]

    monkeypatch.setattr(Measured, "run", one_fails)
    with served(Stub()) as stub:
        assert bench(options(tmp_path, TargetOptions(url=stub.url), max_error_rate=allowed)) == code
    assert ("--max-error-rate allows" in capsys.readouterr().err) == (code == 1)


def test_an_interrupted_run_reports_what_had_ended(tmp_path, capsys, monkeypatch):
    async def interrupted(self, *_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Measured, "run", interrupted)
    with served(Stub()) as stub:
        assert bench(options(tmp_path, TargetOptions(url=stub.url))) == 130
    assert "interrupted" in capsys.readouterr().err


async def test_the_only_pool_that_runs_here_is_the_target(tmp_path):
    async with running(Stub()) as stub:
        RunFolder(tmp_path, "qwen").write_record(record().model_copy(update={"url": stub.url}), "secret")
        found = await resolve(TargetOptions(), tmp_path)
    assert (found.target.url, found.target.model) == (stub.url, "stub")
    assert (found.admin.url, found.admin.token) == (record().admin_url, "secret")


async def test_admin_options_are_taken_with_a_url(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    async with running(Stub()) as stub:
        told = {"admin_url": "http://127.0.0.1:1", "admin_token_file": tmp_path / "token", "block_size": 32}
        found = await resolve(TargetOptions(url=stub.url, model="other", **told), tmp_path)
    assert (found.admin.token, found.admin.block_tokens, found.target.model) == ("secret", 32, "other")


async def test_without_exactly_one_pool_the_user_is_told_how_to_choose(tmp_path):
    with pytest.raises(UserError, match=r"kvpool up FILE.*--run-folder.*--url"):
        await resolve(TargetOptions(), tmp_path)
    RunFolder(tmp_path, "one").write_record(record("one"), "")
    RunFolder(tmp_path, "two").write_record(record("two"), "")
    with pytest.raises(UserError, match="choose with --url"):
        await resolve(TargetOptions(), tmp_path)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"admin_url": "http://a"}, "--admin-url does nothing without --url"),
        ({"admin_url": "http://a", "url": "http://b"}, "--admin-url does nothing without --admin-token-file"),
        ({"admin_token_file": Path("t"), "url": "http://b"}, "--admin-token-file does nothing without --admin-url"),
        ({"block_size": 32}, "--block-size does nothing without --admin-url"),
    ],
)
async def test_an_option_that_would_be_left_unread_is_refused(told, words):
    with pytest.raises(UserError, match=words):
        await resolve(TargetOptions(**told), Path())


async def test_a_model_that_is_not_served_is_named_with_those_that_are():
    async with running(Stub()) as stub:
        with pytest.raises(UserError, match="serves stub, other"):
            await resolve(TargetOptions(url=stub.url, model="nope"), Path())


@pytest.mark.parametrize("url", ["foo", "ftp://h", "http://", "http://h:99999", "http://[::1", "127.0.0.1:8000"])
async def test_a_url_that_is_none_is_refused_with_the_form_it_should_have(url):
    with pytest.raises(UserError, match=r"--url .*: is no address of a server; write http://HOST:PORT"):
        await resolve(TargetOptions(url=url), Path())
    with pytest.raises(UserError, match=r"--admin-url .*: is no address"):
        await resolve(TargetOptions(url="http://h", admin_url=url, admin_token_file=Path("t")), Path())


async def test_a_url_where_nobody_answers_is_one_line():
    with pytest.raises(UserError, match="does not answer as an OpenAI server"):
        await resolve(TargetOptions(url="http://127.0.0.1:1"), Path())


async def test_a_server_without_models_is_one_line(monkeypatch):
    async def none(_, __):
        return web.json_response({"data": []})

    monkeypatch.setattr(Stub, "models", none)
    async with running(Stub()) as stub:
        with pytest.raises(UserError, match="serves no model"):
            await resolve(TargetOptions(url=stub.url), Path())


def test_predictions_that_could_not_be_read_are_said(tmp_path, capsys):
    (tmp_path / "token").write_text("x")
    with served(Stub()) as stub:
        told = {"admin_url": stub.url, "admin_token_file": tmp_path / "token"}
        assert bench(options(tmp_path, TargetOptions(url=stub.url, **told))) == 0
    shown = capsys.readouterr()
    assert "predictions are incomplete" in shown.err
    assert "the router's admin endpoint was not asked or did not answer" in " ".join(shown.out.split())


async def test_progress_is_drawn_on_a_terminal_until_the_run_is_done():
    console, done, tally = Console(force_terminal=True, width=120), asyncio.Event(), Tally(3, sent=2)
    with console.capture() as captured:
        drawing = asyncio.ensure_future(show_progress({"a run": tally}, done, console))
        await asyncio.sleep(0)
        done.set()
        await drawing
    assert "a run" in captured.get()
    assert "2 sent, 2 in flight" in captured.get()
