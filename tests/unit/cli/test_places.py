import os
import sys
from pathlib import Path

import pytest
from fake_pool_api import write_kubeconfig
from kvpool_cli.errors import UserError
from kvpool_cli.place_options import PlaceOptions
from kvpool_cli.places import kubeconfig, place
from kvpool_cli.runs import RunFolder
from run_records import record


@pytest.fixture
def env(tmp_path):
    """A user whose runs would be recorded in `runtime/kvpool`, without a kubeconfig."""
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "kvpool").mkdir(mode=0o700)
    return {"XDG_RUNTIME_DIR": str(tmp_path / "runtime"), "HOME": str(tmp_path)}


async def words(env, *, is_plugin=False, **told):
    """How the place that is chosen says that there is no pool `nope`."""
    with pytest.raises(UserError) as refused:
        await place(PlaceOptions(**told), env, os.getuid(), is_plugin=is_plugin)("nope", 1)
    return str(refused.value)


HERE, CLUSTER = "running here", "context here"


async def test_what_was_told_decides(env, tmp_path):
    file = write_kubeconfig(tmp_path)
    assert CLUSTER in await words(env, kubeconfig=file)
    assert CLUSTER in await words(env, kubeconfig=file, namespace="x")
    assert CLUSTER in await words(env | {"KUBECONFIG": str(file)}, context="here")
    assert HERE in await words(env | {"KUBECONFIG": str(file)}, run_folder=tmp_path)
    assert HERE in await words(env | {"KUBECONFIG": str(file)}, run_folder=tmp_path, is_plugin=True)


async def test_a_run_folder_and_a_cluster_are_two_places_unless_the_folder_is_the_environments(env, tmp_path):
    told = {"run_folder": tmp_path, "kubeconfig": write_kubeconfig(tmp_path)}
    assert "--run-folder is a place on this machine and --kubeconfig one in a cluster" in await words(env, **told)
    assert CLUSTER in await words(env | {"KVPOOL_RUN_FOLDER": str(tmp_path)}, **told)


async def test_one_namespace_and_all_of_them_are_two_wishes(env, tmp_path):
    told = {"kubeconfig": write_kubeconfig(tmp_path), "all_namespaces": True}
    assert "--all-namespaces may find several pools nope" in await words(env, **told)
    assert "--all-namespaces every one; leave one out" in await words(env, namespace="x", **told)


async def test_untold_pools_that_run_here_come_first_then_a_cluster_if_there_is_one(env, tmp_path):
    assert HERE in await words(env)
    env |= {"KUBECONFIG": f"{tmp_path / 'none'}:{write_kubeconfig(tmp_path)}"}
    assert CLUSTER in await words(env)
    assert CLUSTER in await words(env, is_plugin=True)
    RunFolder(tmp_path / "runtime" / "kvpool", "qwen").write_record(record(), "")
    assert HERE in await words(env)
    assert CLUSTER in await words(env, is_plugin=True)


async def test_a_pool_that_was_killed_here_is_told_of_here(env, tmp_path):
    ended = record("nope").model_copy(update={"pid_started": "1"})
    RunFolder(tmp_path / "runtime" / "kvpool", "nope").write_record(ended, "")
    assert "was killed" in await words(env | {"KUBECONFIG": str(write_kubeconfig(tmp_path))})


def test_the_kubeconfig_is_the_one_told_else_the_environments_else_the_users(env, tmp_path):
    assert kubeconfig(PlaceOptions(kubeconfig=Path("/a")), {"KUBECONFIG": "/b"}) == Path("/a")
    assert kubeconfig(PlaceOptions(), env | {"KUBECONFIG": "/b:/c"}) == Path("/b:/c")
    assert kubeconfig(PlaceOptions(), env) == tmp_path / ".kube" / "config"


async def test_an_installation_without_the_client_for_clusters_says_how_to_get_it(env, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "kvpool_cli.kubectl_access", raising=False)
    monkeypatch.setitem(sys.modules, "kubernetes.aio.config.config_exception", None)
    said = await words(env, kubeconfig=write_kubeconfig(tmp_path))
    assert said == "clusters need the package kubernetes.aio.config.config_exception: pip install 'kvpool[operator]'"
