import os
import threading

import pytest
from kvpool_api.crd import custom_resource_definition
from kvpool_api.validation import Admission
from kvpool_cli.errors import UserError
from kvpool_cli.up.manifest_file import ManifestFile
from up_process import manifest, write

ADMISSION = Admission(custom_resource_definition())


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "pool.yaml", manifest(replicas=2))


@pytest.fixture
def file(path):
    return ManifestFile(path, ADMISSION)


def replicas(pools):
    return [pool["spec"]["replicas"] for pool in pools]


def test_a_file_that_nobody_touches_has_not_changed(file, path):
    assert replicas(file.pools()) == [2]
    path.touch()
    assert [file.changed_pools() for _ in range(3)] == [None] * 3


def test_a_change_is_told_once_when_the_file_stands_still(file, path):
    write(path, manifest(replicas=3))
    assert file.changed_pools() is None
    write(path, manifest(replicas=4))
    assert file.changed_pools() is None
    assert replicas(file.changed_pools()) == [4]
    assert file.changed_pools() is None


def test_a_faulty_change_is_told_once_and_the_mended_file_is_told_again(file, path):
    write(path, manifest(replicas=-1))
    assert file.changed_pools() is None
    with pytest.raises(UserError, match=r"spec\.replicas"):
        file.changed_pools()
    assert file.changed_pools() is None
    write(path, manifest(replicas=2))
    file.changed_pools()
    assert replicas(file.changed_pools()) == [2]


def test_a_file_that_is_gone_is_told_once_and_one_that_is_away_for_a_look_is_not(file, path):
    text = path.read_bytes()
    path.unlink()
    assert file.changed_pools() is None
    path.write_bytes(text)
    assert [file.changed_pools(), file.changed_pools()] == [None, None]
    path.unlink()
    file.changed_pools()
    with pytest.raises(UserError, match=r"pool\.yaml: cannot be read"):
        file.changed_pools()
    assert file.changed_pools() is None


def test_a_file_that_may_not_be_read_for_a_look_is_as_good_as_gone(file, path, monkeypatch):
    def denied(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "read_bytes", denied)
    assert file.changed_pools() is None
    assert replicas(file.changed_pools()) == [2]


def test_a_pipe_is_read_once_and_never_changes(path, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    file = ManifestFile(pipe, ADMISSION)
    writer = threading.Thread(target=pipe.write_bytes, args=(path.read_bytes(),))
    writer.start()
    assert replicas(file.pools()) == [2]
    writer.join()
    assert [file.changed_pools() for _ in range(3)] == [None] * 3
