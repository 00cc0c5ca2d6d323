import os
import stat
import time

from kvpool_api.pool import InferencePool
from kvpool_cli.engine_pods import EnginePod
from kvpool_cli.runs import RunFolder, left_behind, running
from run_records import record

POOL = InferencePool.model_validate({"metadata": {"name": "qwen"}, "spec": {"model": {"name": "m"}}})
PODS = {"qwen-1-0": EnginePod(state="Error", cause="killed")}


def ended_pid():
    pid = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(pid, 0)
    return pid


def test_what_is_written_is_read_again(tmp_path):
    folder = RunFolder(tmp_path, "qwen")
    folder.write_record(record(), "secret")
    folder.write_seen(POOL, PODS)
    assert folder.record() == record()
    seen = folder.seen()
    assert (seen.pool, seen.pods) == (POOL, PODS)
    assert abs(time.time() - seen.at) < 60
    assert folder.token_file.read_text() == "secret"
    assert folder.logs.parent == folder.path


def test_the_admin_token_is_readable_by_its_owner_alone(tmp_path):
    folder = RunFolder(tmp_path, "qwen")
    folder.write_record(record(), "old")
    folder.write_record(record(), "new")
    assert stat.S_IMODE(folder.token_file.stat().st_mode) == 0o600
    assert folder.token_file.read_text() == "new"


def test_a_pool_whose_process_has_ended_is_not_running(tmp_path):
    RunFolder(tmp_path, "alive").write_record(record("alive"), "")
    RunFolder(tmp_path, "dead").write_record(record("dead", ended_pid()), "")
    (tmp_path / "foreign").mkdir()
    assert [found.pool for found in running(tmp_path)] == ["alive"]
    assert [found.pool for found in left_behind(tmp_path)] == ["dead"]
    assert running(tmp_path / "none") == []


def test_a_cleared_folder_holds_no_record_no_token_and_keeps_its_logs(tmp_path):
    folder = RunFolder(tmp_path, "qwen")
    folder.write_record(record(), "secret")
    folder.write_seen(POOL, PODS)
    folder.logs.mkdir()
    folder.clear(os.getpid())
    assert [path.name for path in folder.path.iterdir()] == ["logs"]
    assert folder.record() is None
    assert folder.seen() is None


def test_a_process_that_got_the_number_of_an_ended_one_is_not_the_pool(tmp_path):
    RunFolder(tmp_path, "qwen").write_record(record().model_copy(update={"pid_started": "1"}), "")
    assert running(tmp_path) == []


def test_the_record_of_another_process_that_lives_is_left_alone(tmp_path):
    folder = RunFolder(tmp_path, "qwen")
    folder.write_record(record(), "secret")
    folder.clear(os.getpid() + 1)
    assert folder.record() is not None
