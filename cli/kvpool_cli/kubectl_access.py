"""Which cluster, which namespace, and what its failures mean to whoever typed the command."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.kube_config import KubeConfigMerger
from kvpool_api.manifest import Manifest, as_list, as_map, as_text, at
from kvpool_api.meta import POOL_RESOURCE
from kvpool_operator.cluster.kube.connection import NoCredentials
from kvpool_operator.cluster.seam import ClusterError, Forbidden, Unavailable
from yaml import YAMLError

from kvpool_cli.errors import FAILED, UserError

RIGHTS = (
    f"get and list of {POOL_RESOURCE}, list of pods, get of the Secret <pool>-admin, get and create of pods/portforward"
)


@dataclass(frozen=True, slots=True)
class Access:
    """A context of a kubeconfig, and the namespace to look into; None: all."""

    kubeconfig: Path
    context: str
    namespace: str | None


def access(kubeconfig: Path, context: str | None, namespace: str | None) -> Access:
    """Raises UserError: no such file, no kubeconfig, no such context."""
    config = _merged(kubeconfig)
    contexts = {as_text(as_map(each).get("name")): as_map(each) for each in as_list(config.get("contexts"))}
    chosen = context or as_text(config.get("current-context"))
    known = ", ".join(sorted(contexts)) or "none"
    if not chosen:
        raise UserError(f"kubeconfig {kubeconfig} has no current context; choose one with --context (it has: {known})")
    if chosen not in contexts:
        raise UserError(f"kubeconfig {kubeconfig} has no context {chosen}; it has: {known}")
    its_own = as_text(at(contexts[chosen], ("context", "namespace")))
    return Access(kubeconfig, chosen, namespace or its_own or "default")


def _merged(kubeconfig: Path) -> Manifest:
    """All files of the path as one."""
    missing = [each for each in str(kubeconfig).split(":") if each and not Path(each).expanduser().is_file()]
    if len(missing) == len([each for each in str(kubeconfig).split(":") if each]):
        raise UserError(
            f"kubeconfig {kubeconfig}: there is no such file; name one with --kubeconfig or KUBECONFIG, "
            "or start a pool on this machine with `kvpool up FILE`"
        )
    try:
        merger = KubeConfigMerger(str(kubeconfig))  # type: ignore[no-untyped-call]
        whole = merger.config.value
        contexts = [each.value for each in whole["contexts"]]
        return {"current-context": whole.get("current-context"), "contexts": contexts}
    except (ConfigException, OSError, YAMLError, AttributeError, TypeError, KeyError, UnicodeDecodeError) as error:
        raise UserError(f"{kubeconfig} is no kubeconfig ({_first_line(error)})") from error


@contextmanager
def told_to_people(where: Access) -> Iterator[None]:
    """What a cluster answers instead of a result becomes one line with the mend."""
    try:
        yield
    except NoCredentials as error:
        raise UserError(str(error), exit_code=FAILED) from error
    except Forbidden as error:
        raise UserError(
            f"context {where.context}: {lack(error)}; ask for a Role with {RIGHTS}", exit_code=FAILED
        ) from error
    except Unavailable as error:
        mend = "see that it is up (`kubectl get --raw /readyz`), or choose another with --context"
        raise UserError(f"context {where.context}: {_first_line(error)}; {mend}", exit_code=FAILED) from error
    except ClusterError as error:
        raise UserError(f"context {where.context}: {_first_line(error)}", exit_code=FAILED) from error


def lack(error: Forbidden) -> str:
    """Who may not do what, without what the operator's own log adds."""
    return str(error).partition("; grant it")[0]


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
