import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
from kvpool_api.pool import InferencePool
from kvpool_cli.engine_pods import engine_pods
from kvpool_cli.errors import UserError
from kvpool_cli.runs import RunFolder
from kvpool_cli.up.doors import Door
from kvpool_cli.up.engines import VLLM_CPU_ENV, programs, python_with_vllm, vllm_env
from kvpool_cli.up.once_ready import run_command
from kvpool_cli.up.pools import LocalPool
from kvpool_cli.up.show import greeting, shown
from kvpool_cli.view import view
from pool_facts import READY, URL, condition, facts, pool, worker
from rich.console import Console


def engine_pod(name, phase="Running", ready=True, deleted=None, last=None, **state):
    ended = {"terminated": last} if last else {}
    container = {"name": "engine", "ready": ready, "state": state or {"running": {}}, "lastState": ended}
    return {
        "metadata": {"name": name, "deletionTimestamp": deleted},
        "status": {"phase": phase, "containerStatuses": [container]},
    }


def test_an_engine_pod_tells_its_state_in_a_word():
    pods = [
        engine_pod("a"),
        engine_pod("b", ready=False),
        engine_pod("c", ready=False, waiting={"reason": "CrashLoopBackOff"}),
        engine_pod("d", phase="Failed"),
        engine_pod("e", deleted="2026-01-01T00:00:00Z"),
        {"metadata": {"name": "f"}},
        engine_pod("g", ready=False, terminated={"reason": "Error"}),
    ]
    assert {name: pod.state for name, pod in engine_pods(pods).items()} == {
        "a": "ready",
        "b": "starting",
        "c": "CrashLoopBackOff",
        "d": "Failed",
        "e": "draining",
        "f": "Pending",
        "g": "Error",
    }


def test_an_engine_that_came_back_tells_why_it_went_until_it_is_ready():
    killed = {"exitCode": 137}
    pods = engine_pods([engine_pod("a", ready=False, last=killed), engine_pod("b", last=killed)])
    assert "a: killed" in pods["a"].cause
    assert pods["b"].cause == ""


async def test_the_command_gets_the_pools_address_and_its_exit_code_counts(capfd):
    assert await run_command("echo $KVPOOL_URL; exit 7", {"KVPOOL_URL": URL}) == 7
    assert capfd.readouterr().out.strip() == URL
    assert await run_command("kill -TERM $$", {}) == 143


@pytest.mark.parametrize("command", ["exec sleep 60", "trap '' TERM; echo $$; while :; do sleep 0.1; done"])
async def test_a_command_that_is_still_running_ends_with_the_pool(monkeypatch, command):
    monkeypatch.setattr("kvpool_cli.up.once_ready.GRACE_S", 0.2)
    work = asyncio.ensure_future(run_command(command, {}))
    await asyncio.sleep(0.3)
    work.cancel()
    since = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert time.monotonic() - since < 5


def views(*conditions, **told):
    return [view(pool(*conditions), facts(worker(**told)), {}, URL)]


def test_without_a_terminal_a_line_comes_only_when_something_changed():
    console = Console(width=200)
    with console.capture() as captured, shown("live", console) as show:
        for moment in (views(condition("Ready", "False")), 2 * views(READY), views(READY, running=9)):
            show(moment)
    assert captured.get().splitlines() == [
        "qwen: serving with 1 of 1 engines: Because: of this. | qwen-1-0 ready EXACT | hit 60.0 %, predicted 59.0 %",
        "qwen: ready | qwen-1-0 ready EXACT | hit 60.0 %, predicted 59.0 %",
    ]


def test_on_a_terminal_a_table_is_redrawn():
    console = Console(force_terminal=True, width=160)
    with console.capture() as captured, shown("live", console) as show:
        show(views(READY))
    assert "1,234" in captured.get()
    assert "predicted" in captured.get()


def test_quiet_says_nothing():
    console = Console()
    with console.capture() as captured, shown("quiet", console) as show:
        show(views(READY))
    assert captured.get() == ""


def greeted(tmp_path, replicas):
    folder = RunFolder(tmp_path, "qwen")
    local = LocalPool(pool(READY, replicas=replicas), folder, Door(URL, "http://127.0.0.1:8001", "secret"))
    return list(greeting(views(READY), [local], Path("pool.yaml"), "kvpool status --run-folder /r"))


def test_a_ready_pool_is_greeted_with_its_urls_and_a_line_to_try_it(tmp_path):
    first, second, third, last = greeted(tmp_path, 2)
    assert first.startswith(f"qwen is ready: {URL}")
    assert f"curl {URL}/v1/chat/completions" in second
    assert '"model":"m"' in second
    assert all(
        word in third for word in ("/health", "/ready", "/metrics", "admin http://127.0.0.1:8001", "admin-token")
    )
    assert str(tmp_path / "qwen" / "logs") in last
    assert "pool.yaml is read again when it changes" in last
    assert "`kvpool status --run-folder /r` tells more" in last


def test_a_pool_that_is_scaled_to_zero_is_not_praised_as_ready_but_told_how_to_raise_it(tmp_path):
    first, second, *_ = greeted(tmp_path, 0)
    assert first.startswith(f"qwen is scaled to zero: {URL} refuses requests")
    assert "set spec.replicas in pool.yaml to 1 or more" in second
    assert "curl" not in second


def cpu_pool(**engine):
    return InferencePool.model_validate(
        {"metadata": {"name": "p"}, "spec": {"model": {"name": "m", "source": {"path": "/models/m"}}, "engine": engine}}
    )


def test_simulated_engines_and_the_router_run_with_this_python():
    table = programs("sim", None, [])
    assert table.program("any", "engine").argv == (sys.executable, "-m", "kvpool_sim")
    assert table.program("any", "router").is_router
    assert os.path.isdir(table.program("any", "router").env["KVPOOL_TOKENIZER_PATH"])


def test_real_engines_need_a_python_that_has_vllm(tmp_path):
    with pytest.raises(UserError, match="there is no such program"):
        python_with_vllm(tmp_path / "python")
    with pytest.raises(UserError, match="vLLM is not installed") as caught:
        python_with_vllm(None)
    assert "--vllm-python" in str(caught.value)


def test_real_engines_take_the_models_name_after_the_model_option(tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 0\n")
    python.chmod(0o755)
    engine = programs("vllm", python, [cpu_pool()]).program("any", "engine")
    assert engine.argv == (str(python), "-m", "vllm.entrypoints.openai.api_server", "--model")
    assert engine.events_over_ipc


def test_without_a_gpu_engines_share_the_machine_and_the_pools_own_settings_win():
    told = cpu_pool(env=[{"name": "OMP_NUM_THREADS", "value": "2"}])
    env = vllm_env([told], gpu=False)
    assert env["HF_HUB_OFFLINE"] == "1"
    assert env["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert "OMP_NUM_THREADS" not in env


def test_with_a_gpu_and_a_model_of_the_hub_nothing_is_set_but_privacy():
    from_hub = InferencePool.model_validate({"metadata": {"name": "p"}, "spec": {"model": {"name": "m"}}})
    env = vllm_env([from_hub], gpu=True)
    assert set(env) == {"VLLM_NO_USAGE_STATS", "DO_NOT_TRACK", "SPT_NOENV"}
    assert not set(env) & set(VLLM_CPU_ENV)
