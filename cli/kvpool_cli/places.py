"""Where to look for pools: on this machine or in a cluster, by what was told and what there is."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir
from typing import Protocol

from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.found import Found
from kvpool_cli.found_here import found_here
from kvpool_cli.option_groups import flags_given
from kvpool_cli.place_options import PlaceOptions
from kvpool_cli.run_place import default_run_folder
from kvpool_cli.runs import left_behind, running


class Place(Protocol):
    """Finds one pool by name, or all, with so many of its routers' last decisions. Raises UserError."""

    async def __call__(self, pool: str | None, decisions: int) -> Found: ...


def place(options: PlaceOptions, env: Mapping[str, str], user: int, *, is_plugin: bool) -> Place:
    """What was told decides; else, as a plugin of kubectl, the cluster; else this machine where pools run; else what
    there is: a kubeconfig, or nothing. Raises UserError.
    """
    told = [flag for flag in flags_given(options) if flag != "--run-folder"]
    if told and options.run_folder and not env.get("KVPOOL_RUN_FOLDER"):
        raise UserError(f"--run-folder is a place on this machine and {told[0]} one in a cluster; leave one out")
    if told:
        return _in_cluster(options, env)
    if options.run_folder:
        return here(options.run_folder)
    if is_plugin:
        return _in_cluster(options, env)
    folder = default_run_folder(env, Path(gettempdir()), user)
    if running(folder) or left_behind(folder) or not _is_there(kubeconfig(options, env)):
        return here(folder)
    return _in_cluster(options, env)


def kubeconfig(options: PlaceOptions, env: Mapping[str, str]) -> Path:
    """A path, or several joined by colons, as KUBECONFIG has them."""
    home = Path(env.get("HOME") or Path.home())
    return options.kubeconfig or Path(env.get("KUBECONFIG") or home / ".kube" / "config")


def _is_there(paths: Path) -> bool:
    return any(Path(each).is_file() for each in str(paths).split(":"))


def here(folder: Path) -> Place:
    """The pools whose records are in the folder."""

    async def find(pool: str | None, decisions: int) -> Found:
        return await found_here(pool, folder, decisions)

    return find


def _in_cluster(options: PlaceOptions, env: Mapping[str, str]) -> Place:
    try:
        from kvpool_cli.kubectl_access import access
        from kvpool_cli.kubectl_pools import found_in_cluster
    except ModuleNotFoundError as lacking:
        mend = "pip install 'kvpool[operator]'"
        raise UserError(f"clusters need the package {lacking.name}: {mend}", exit_code=FAILED) from lacking

    if options.all_namespaces and options.namespace:
        raise UserError("--namespace is one namespace and --all-namespaces every one; leave one out")
    told = access(kubeconfig(options, env), options.context, options.namespace)
    told = replace(told, namespace=None) if options.all_namespaces else told

    async def find(pool: str | None, decisions: int) -> Found:
        return await found_in_cluster(pool, told, decisions)

    return find
