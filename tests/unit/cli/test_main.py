import ast
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from kvpool_cli import main
from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.explain import Asked


def run(monkeypatch, *words, name="kvpool"):
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main.run()
    return ended.value.code


def test_help_and_version_need_nothing_but_the_command_line(monkeypatch, capsys):
    assert run(monkeypatch, "--help") == 0
    assert run(monkeypatch, "version") == 0
    assert run(monkeypatch, "--version") == 0
    shown = capsys.readouterr().out
    assert shown.count(f"kvpool {version('kvpool')}") == 2
    assert all(word in shown for word in ("up", "status", "bench", "crd", f"kvpool {version('kvpool')}"))


@pytest.mark.parametrize("command", ["", "up", "status", "explain", "bench", "crd", "version"])
def test_every_option_and_command_is_explained_in_help_of_80_columns(monkeypatch, capsys, command):
    assert run(monkeypatch, *command.split(), "--help") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "..." not in shown.partition("Commands:")[2]
    bare = re.findall(r"^  (--?[a-z-]+(?: <.*>| [A-Z]+)?)$(?!\n {8,}\S)", shown, re.MULTILINE)
    assert bare == []


def test_help_imports_what_tells_options_and_nothing_that_runs_a_subcommand():
    program = (
        "import sys, kvpool_cli.main as m; print([n for n in sys.modules "
        "if n.startswith(('kvpool_', 'aiohttp', 'kubernetes', 'pydantic', 'yaml', 'rich.'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    light = {"", ".main", ".errors", ".option_groups", ".bench", ".bench.options", ".bench.workload"} | {
        ".place_options",
        ".run_folder_option",
        ".up",
        ".up.options",
    }
    assert set(ast.literal_eval(done.stdout)) == {f"kvpool_cli{name}" for name in light}


def test_help_is_quick():
    program = Path(sys.executable).parent / "kvpool"
    times = []
    for _ in range(3):
        since = time.monotonic()
        subprocess.run([program, "--help"], check=True, capture_output=True)
        times.append(time.monotonic() - since)
    assert min(times) < 1  # 0.07 s at rest; a machine under test may be busy


@pytest.mark.parametrize("name", ["kvpool", "kubectl-kvpool"])
def test_a_users_error_is_one_line_under_the_commands_own_name(monkeypatch, capsys, name, tmp_path):
    both = ("--trace", __file__, "--profile", "shared-prefix", "--url", "http://127.0.0.1:1", "--model", "m")
    assert run(monkeypatch, "bench", "--run-folder", tmp_path, *both, name=name) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.startswith(f"{name.replace('-', ' ')}: --trace and --profile name two loads; leave one out")


def test_a_failure_keeps_its_exit_code(monkeypatch, capsys):
    def fail(*_):
        raise UserError("the pool went away", exit_code=FAILED)

    monkeypatch.setattr("kvpool_cli.bench.command.bench", fail)
    assert run(monkeypatch, "bench", "--profile", "shared-prefix") == 1


def test_a_wrong_option_is_exit_2(monkeypatch, capsys):
    assert run(monkeypatch, "bench", "--nonsense") == 2
    assert "--nonsense" in capsys.readouterr().err


def test_an_interrupt_is_exit_130_without_a_traceback(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("kvpool_cli.bench.command.bench", interrupt)
    assert run(monkeypatch, "bench", "--profile", "shared-prefix") in (1, 130)
    assert "Traceback" not in capsys.readouterr().err


def test_bench_options_reach_the_load(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("kvpool_cli.bench.command.bench", lambda options: seen.append(options) or 0)
    assert run(monkeypatch, "bench", "--trace", tmp_path, "--seconds", 150, "--speed", 2, "--json") == 0
    assert run(monkeypatch, "bench", "--rate", 14, "--max-error-rate", 2.5, "--run-folder", tmp_path) == 0
    assert (seen[0].load.trace, seen[0].load.seconds, seen[0].trace.speed, seen[0].report.as_json) == (
        tmp_path,
        150,
        2,
        True,
    )
    assert (seen[1].profile.rate_per_s, seen[1].profile.groups, seen[1].report.max_error_rate) == (14, None, 2.5)
    assert seen[1].run_folder == tmp_path


def test_an_option_of_the_other_load_is_one_line_and_exit_2(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "bench", "--speed", 2, "--run-folder", tmp_path) == 2
    assert capsys.readouterr().err == "kvpool: --speed: belongs to --trace, and there is none; leave it out\n"


def test_up_options_reach_the_command_and_its_exit_code_comes_back(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("kvpool_cli.up.command.up", lambda options: seen.append(options) or 7)
    assert run(monkeypatch, "up", tmp_path, "--once-ready", "true", "--no-live", "--timeout", 9) == 7
    assert run(monkeypatch, "up", tmp_path, "--quiet") == 7
    assert (seen[0].once_ready, seen[0].shown, seen[0].timeout_s) == ("true", "lines", 9)
    assert seen[1].shown == "quiet"


def test_status_without_a_pool_is_exit_2(monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "status", "--run-folder", tmp_path) == 2
    assert "kvpool up FILE" in capsys.readouterr().err


def test_the_plugin_of_kubectl_looks_into_the_cluster_whatever_runs_here(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    for words in (["status"], ["explain"]):
        assert run(monkeypatch, *words, name="kubectl-kvpool") == 2
        assert capsys.readouterr().err.startswith(
            f"kubectl kvpool: kubeconfig {tmp_path / 'none'}: there is no such file"
        )


def test_explain_options_reach_the_command(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("kvpool_cli.explain.explain", lambda asked, place: seen.append(asked) or 0)
    folder = ("--run-folder", tmp_path)
    assert run(monkeypatch, "explain", "abc", "--pool", "qwen", "--json", *folder) == 0
    assert run(monkeypatch, "explain", "--last", 20, *folder) == 0
    assert seen == [Asked("abc", "qwen", 5, as_json=True), Asked(None, None, 20)]


def test_crd_prints_what_kubectl_takes(monkeypatch, capsys):
    assert run(monkeypatch, "crd") == 0
    assert yaml.safe_load(capsys.readouterr().out)["metadata"]["name"] == "inferencepools.kvpool.dev"
