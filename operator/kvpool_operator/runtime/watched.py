"""What the operator watches, and where that is in the API."""

from collections.abc import Iterator, Sequence

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube.paths import collection
from kvpool_operator.cluster.seam import Kind

CHILDREN = (
    seam.POD,
    seam.DEPLOYMENT,
    seam.SERVICE,
    seam.CONFIG_MAP,
    seam.SERVICE_ACCOUNT,
    seam.ROLE,
    seam.ROLE_BINDING,
    seam.DISRUPTION_BUDGET,
    seam.NETWORK_POLICY,
)
"""What pools own, but Secrets: who may list Secrets may read every one; the operator reads its own by name."""
WATCHED = (seam.POOL, *CHILDREN)


def scopes(namespaces: Sequence[str]) -> Sequence[str | None]:
    """Each namespace; None: all of them at once."""
    return namespaces or (None,)


def watches(namespaces: Sequence[str]) -> Iterator[tuple[Kind, str | None]]:
    """One watch each: what is watched, and in which namespace."""
    return ((kind, scope) for kind in WATCHED for scope in scopes(namespaces))


def watched_paths(namespaces: Sequence[str]) -> Sequence[str]:
    return [collection(kind, scope) for kind, scope in watches(namespaces)]
