import fcntl
import os

import pytest
from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.run_lock import held
from kvpool_cli.runs import RunFolder
from run_records import record


def folders(root, *names):
    return [RunFolder(root, name) for name in names]


def test_a_pool_that_is_run_already_is_refused_with_its_name_the_process_and_the_mend(tmp_path):
    with held(folders(tmp_path, "one", "two")):
        RunFolder(tmp_path, "two").write_record(record("two"), "")
        with pytest.raises(UserError) as refused, held(folders(tmp_path, "two")):
            pass
    assert str(refused.value) == (
        f"pool two is already run by process {os.getpid()} (kvpool up pool.yaml); "
        "end that one, give this pool another name, or name another folder with --run-folder"
    )
    assert refused.value.exit_code == FAILED


def test_the_last_runs_record_is_not_taken_for_the_holders(tmp_path):
    RunFolder(tmp_path, "two").write_record(record("two", 1), "")
    with (
        held(folders(tmp_path, "two")),
        pytest.raises(UserError, match=f"by process {os.getpid()};"),
        held(folders(tmp_path, "two")),
    ):
        pass


def test_of_several_pools_all_are_held_or_none(tmp_path):
    with held(folders(tmp_path, "b")):
        with pytest.raises(UserError, match="pool b "), held(folders(tmp_path, "c", "b", "a")):
            pass
        with held(folders(tmp_path, "a", "c")):
            pass


def test_a_pool_that_has_ended_may_be_run_again(tmp_path):
    for _ in range(2):
        with held(folders(tmp_path, "one")):
            assert RunFolder(tmp_path, "one").lock_file.read_text() == str(os.getpid())


def test_a_folder_that_cannot_be_made_is_one_line_with_the_mend(tmp_path):
    (tmp_path / "run").write_text("no folder")
    with (
        pytest.raises(UserError, match=r"cannot be used: Not a directory; .*--run-folder"),
        held(folders(tmp_path / "run", "one")),
    ):
        pass


def test_a_run_that_ends_leaves_no_lock_behind_and_no_folder_unless_it_holds_logs(tmp_path):
    with held(folders(tmp_path, "one", "two")):
        RunFolder(tmp_path, "two").logs.mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["two"]
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["logs"]


def test_a_lock_whose_file_its_last_holder_took_away_meanwhile_is_not_held(tmp_path, monkeypatch):
    folder, real = RunFolder(tmp_path, "one"), fcntl.flock
    taken_away = iter([True])

    def late(file, how):
        if next(taken_away, False):
            folder.lock_file.unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with held([folder]):
        assert folder.lock_file.read_text() == str(os.getpid())
