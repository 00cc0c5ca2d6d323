"""Where a pool that runs here answers, once the operator has made its router."""

import base64
from dataclasses import dataclass

from kvpool_api.labels import admin_secret_name
from kvpool_api.manifest import as_text, at
from kvpool_api.pool import InferencePool
from kvpool_api.wire import ADMIN_PORT_NAME, HTTP_PORT_NAME
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.local import LocalCluster
from kvpool_operator.cluster.seam import NotFound, Ref


@dataclass(frozen=True, slots=True)
class Door:
    """URLs of the router and of its admin endpoint, and the admin token; empty while there is no router."""

    url: str = ""
    admin_url: str = ""
    token: str = ""


async def find_door(cluster: LocalCluster, pool: Ref) -> Door | None:
    """None until the router's addresses and its token are known."""
    http = cluster.address_of(pool.namespace, pool.name, HTTP_PORT_NAME)
    admin = cluster.address_of(pool.namespace, pool.name, ADMIN_PORT_NAME)
    token = await _token(cluster, pool)
    if http is None or admin is None or token is None:
        return None
    return Door(_url(http), _url(admin), token)


def public_url(cluster: LocalCluster, pool: InferencePool) -> str | None:
    """What the pool's status names as its URL."""
    address = cluster.address_of(pool.metadata.namespace, pool.metadata.name, HTTP_PORT_NAME)
    return None if address is None else _url(address)


async def _token(cluster: LocalCluster, pool: Ref) -> str | None:
    try:
        secret = await cluster.get(Ref(seam.SECRET, pool.namespace, admin_secret_name(pool.name)))
    except NotFound:
        return None
    encoded = as_text(at(secret, ("data", "token")))
    return base64.b64decode(encoded).decode() if encoded else None


def _url(address: tuple[str, int]) -> str:
    host, port = address
    return f"http://{host}:{port}"
