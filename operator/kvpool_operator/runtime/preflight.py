"""What must hold before the operator can work, asked for once: else it would wait in silence."""

import asyncio
import logging
from collections.abc import Sequence

from kvpool_api.meta import POOL_RESOURCE

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Cluster, Forbidden, Kind, NotFound, Unauthorized, Unavailable
from kvpool_operator.loop import back_off_s
from kvpool_operator.runtime.options import StartError
from kvpool_operator.runtime.watched import watches
from kvpool_operator.settings import Settings

LOG = logging.getLogger(__name__)
NOTHING = {"kvpool.dev/pool": "none", "kvpool.dev/role": "none"}
"""Nothing bears these labels: the answer is short."""
_CREDENTIALS = (
    "name a kubeconfig that `kubectl --kubeconfig FILE auth whoami` works with, or, in a cluster, delete the "
    "operator's Pod, whose next one gets a new token."
)


async def preflight(cluster: Cluster, namespaces: Sequence[str], settings: Settings) -> None:
    """Waits for the API server; raises StartError where the CRD or a permission is missing, or nobody knows us.

    Credentials that are refused later are read anew and waited for: they have been good.
    """
    for kind, namespace in watches(namespaces):
        await _listable(cluster, kind, namespace, settings)


async def _listable(cluster: Cluster, kind: Kind, namespace: str | None, settings: Settings) -> None:
    failures = 0
    while True:
        try:
            await cluster.list(kind, namespace=namespace, labels=NOTHING)
            return
        except Unauthorized as error:
            raise StartError(f"{error}; {_CREDENTIALS}") from error
        except Unavailable as error:
            LOG.warning("waiting for the API server: %s", error)
            await asyncio.sleep(back_off_s(settings, failures))
            failures += 1
        except Forbidden as error:
            raise StartError(_forbidden(namespace, error)) from error
        except NotFound as error:
            raise StartError(_missing(kind, error)) from error


def _forbidden(namespace: str | None, error: Forbidden) -> str:
    where = "deploy/" if namespace is None else "deploy/namespaced"
    return f"a permission is missing: {error}. `kubectl apply -k {where}` grants what the operator needs."


def _missing(kind: Kind, error: NotFound) -> str:
    if kind is seam.POOL:
        return f"the CRD {POOL_RESOURCE} is not installed; install it: kubectl apply --server-side -f crds/."
    return f"this cluster does not know {kind.plural} of {kind.api_version} ({error}); kvpool needs Kubernetes 1.30."
