import os
import stat

import pytest
from kvpool_cli.errors import UserError
from kvpool_cli.run_place import default_run_folder

ME = os.getuid()


def test_the_runtime_folder_of_the_session_is_the_first_choice(tmp_path):
    runtime, temporary = tmp_path / "runtime", tmp_path / "tmp"
    runtime.mkdir()
    found = default_run_folder({"XDG_RUNTIME_DIR": str(runtime)}, temporary, ME)
    assert found == runtime / "kvpool"
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "told", [{}, {"XDG_RUNTIME_DIR": ""}, {"XDG_RUNTIME_DIR": "/nowhere"}, {"XDG_RUNTIME_DIR": "."}]
)
def test_without_one_it_is_a_private_folder_named_by_the_user(tmp_path, told):
    found = default_run_folder(told, tmp_path, ME)
    assert found == tmp_path / f"kvpool-{ME}"
    assert stat.S_IMODE(found.stat().st_mode) == 0o700
    assert default_run_folder(told, tmp_path, ME) == found


def test_a_folder_of_another_user_is_refused(tmp_path):
    (tmp_path / f"kvpool-{ME + 1}").mkdir(mode=0o700)
    with pytest.raises(UserError, match=r"belongs to another user.*--run-folder"):
        default_run_folder({}, tmp_path, ME + 1)


def test_a_link_is_refused_wherever_it_leads(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / f"kvpool-{ME}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is a link"):
        default_run_folder({}, tmp_path, ME)


def test_a_folder_that_others_may_enter_is_refused_with_the_mend(tmp_path):
    folder = tmp_path / f"kvpool-{ME}"
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(UserError, match=f"chmod 700 {folder}"):
        default_run_folder({}, tmp_path, ME)


def test_a_temporary_folder_that_is_none_is_one_line(tmp_path):
    with pytest.raises(UserError, match="No such file or directory; or name another"):
        default_run_folder({}, tmp_path / "none", ME)
