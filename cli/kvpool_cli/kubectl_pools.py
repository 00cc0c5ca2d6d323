"""The pools of a cluster's namespace, read through the API server by the user's own kubeconfig."""

import base64
import time
from collections.abc import Sequence
from datetime import datetime

import aiohttp
from kvpool_api.labels import ROUTER_CONTAINER, admin_secret_name, engine_selector, router_name, router_selector
from kvpool_api.manifest import Manifest, as_map, as_text, at
from kvpool_api.meta import POOL_RESOURCE
from kvpool_api.pool import InferencePool
from kvpool_api.wire import ROUTER_ADMIN_PORT
from kvpool_operator.cluster.kube.cluster import KubeCluster
from kvpool_operator.cluster.kube.connection import connect
from kvpool_operator.cluster.kube.pace import Pace
from kvpool_operator.cluster.seam import DEPLOYMENT, POD, POOL, SECRET, ClusterError, Forbidden, NotFound, Ref, Refused
from kvpool_operator.status.causes import cause
from pydantic import ValidationError

from kvpool_cli.engine_pods import engine_pods
from kvpool_cli.errors import FAILED, UserError
from kvpool_cli.found import Found, FoundPool, together
from kvpool_cli.kubectl_access import Access, lack, told_to_people
from kvpool_cli.kubectl_forward import forwarded
from kvpool_cli.router_facts import RouterFacts, read_router
from kvpool_cli.view import is_looked_at

PACE = Pace(call_s=10.0, waits_s=(0.2,))
"""Somebody waits at a terminal."""
ROUTER_ANSWERS_S = 10.0
OPERATOR = Ref(DEPLOYMENT, "kvpool-system", "kvpool-operator")
OPERATOR_LOOKS_WITHIN_S = 20.0


async def found_in_cluster(pool: str | None, access: Access, decisions: int) -> Found:
    """The one that is named, or all of the namespace. Raises UserError."""
    with told_to_people(access):
        async with connect(access.kubeconfig, access.context, pace=PACE) as cluster:
            manifests = await _pools(cluster, pool, access)
            found = [await _found(cluster, manifest, decisions) for manifest in manifests]
            return Found(tuple(found), across_namespaces=access.namespace is None)


async def _pools(cluster: KubeCluster, wanted: str | None, access: Access) -> Sequence[Manifest]:
    namespace, context = access.namespace, f"context {access.context}"
    if wanted is not None and namespace is None:
        raise UserError(f"--all-namespaces may find several pools {wanted}; say which one with --namespace")
    where = context if namespace is None else f"namespace {namespace} of {context}"
    try:
        if wanted is not None and namespace is not None:
            return [await cluster.get(Ref(POOL, namespace, wanted))]
        if found := (await cluster.list(POOL, namespace=namespace, labels={})).items:
            return found
    except NotFound as error:
        if "CustomResourceDefinition" in str(error):
            raise UserError(_not_installed(access), exit_code=FAILED) from error
        others = await _names(cluster, namespace)
        raise UserError(f"{where} has no pool {wanted}; it has: {others}") from error
    elsewhere = "--context" if namespace is None else "--namespace, --all-namespaces or --context"
    raise UserError(f"{where} has no pool; apply one, or look elsewhere with {elsewhere}")


def _not_installed(access: Access) -> str:
    return (
        f"the cluster of context {access.context} does not know {POOL_RESOURCE}: kvpool is not installed there; "
        "install it (`kubectl apply -k deploy/`), or choose another cluster with --context"
    )


async def _names(cluster: KubeCluster, namespace: str | None) -> str:
    try:
        found = (await cluster.list(POOL, namespace=namespace, labels={})).items
    except Forbidden as error:
        return f"(not to be told: {lack(error)})"
    return ", ".join(as_text(at(each, ("metadata", "name"))) for each in found) or "none"


async def _found(cluster: KubeCluster, manifest: Manifest, decisions: int) -> FoundPool:
    try:
        pool = InferencePool.model_validate(manifest)
    except ValidationError as error:
        name, first = as_text(at(manifest, ("metadata", "name"))), error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise UserError(
            f"pool {name} is of another release of kvpool ({field}: {first['msg']}); "
            "use the kvpool that is installed in the cluster",
            exit_code=FAILED,
        ) from error
    name, namespace = pool.metadata.name, pool.metadata.namespace
    engines = (await cluster.list(POD, namespace=namespace, labels=engine_selector(name))).items
    facts = await _facts(cluster, name, namespace, decisions)
    notes = [*await _operator(cluster, pool), *([facts.trouble] if facts.trouble else [])]
    return FoundPool(pool, engine_pods(engines), facts, notes=tuple(notes))


async def _facts(cluster: KubeCluster, pool: str, namespace: str, decisions: int) -> RouterFacts:
    """Of all its routers. Lacking rights are said, and what can be told without them is told."""
    routers = (await cluster.list(POD, namespace=namespace, labels=router_selector(pool))).items
    answering = [router for router in routers if at(router, ("status", "phase")) == "Running"]
    if not answering:
        return RouterFacts(trouble=_no_router(pool, routers))
    try:
        token = await _token(cluster, pool, namespace)
    except Forbidden as error:
        return RouterFacts(trouble=f"the routers cannot be asked: {lack(error)}")
    except NotFound:
        return RouterFacts(trouble=f"the routers cannot be asked: there is no Secret {admin_secret_name(pool)}")
    return together([await _asked(cluster, router, pool, token, decisions) for router in answering])


def _no_router(pool: str, routers: Sequence[Manifest]) -> str:
    why = [found.message for router in routers if (found := cause(router, ROUTER_CONTAINER)) is not None]
    return f"no router Pod of pool {pool} runs" + (f": {why[0]}" if why else "")


async def _token(cluster: KubeCluster, pool: str, namespace: str) -> str:
    secret = await cluster.get(Ref(SECRET, namespace, admin_secret_name(pool)))
    return base64.b64decode(as_text(as_map(secret.get("data")).get("token"))).decode()


async def _asked(cluster: KubeCluster, router: Manifest, pool: str, token: str, decisions: int) -> RouterFacts:
    name = as_text(at(router, ("metadata", "name")))
    pod = Ref(POD, as_text(at(router, ("metadata", "namespace"))), name)
    timeout = aiohttp.ClientTimeout(total=ROUTER_ANSWERS_S)
    async with (
        forwarded(cluster.api, pod, ROUTER_ADMIN_PORT) as forward,
        aiohttp.ClientSession(timeout=timeout) as session,
    ):
        facts = await read_router(session, forward.url, token, decisions)
    if facts.refused:
        return RouterFacts(trouble=_wants_another_token(name, pool, pod.namespace))
    if facts.state is not None or forward.trouble is None:
        return facts
    return RouterFacts(trouble=f"router {name} cannot be asked: {_why(forward.trouble)}")


def _wants_another_token(router: str, pool: str, namespace: str) -> str:
    mend = f"`kubectl -n {namespace} rollout restart deploy {router_name(pool)}`"
    return (
        f"router {router} does not take the token of the Secret {admin_secret_name(pool)} (401): "
        f"a changed Secret reaches it within about two minutes; if this stays, {mend}"
    )


def _why(trouble: ClusterError) -> str:
    """The API server asks for two rights, and says nothing of the second one when that is lacking."""
    if isinstance(trouble, Refused) and "is forbidden" in str(trouble):
        words = lack(trouble) if isinstance(trouble, Forbidden) else str(trouble).rstrip(": ")
        return f"{words}; it takes get and create of pods/portforward"
    if "connection refused" in str(trouble):
        return f"it does not listen on port {ROUTER_ADMIN_PORT} yet"
    return str(trouble)


async def _operator(cluster: KubeCluster, pool: InferencePool) -> Sequence[str]:
    """Why nobody has looked at the pool, or at its newest spec, if that is old enough to be wondered at."""
    if is_looked_at(pool) or _age_s(pool) < OPERATOR_LOOKS_WITHIN_S:
        return []
    what = "the newest spec of pool" if pool.status.conditions else "pool"
    begun = f"no operator has looked at {what} {pool.metadata.name}"
    try:
        found = await cluster.get(OPERATOR)
    except NotFound:
        mend = "install it (`kubectl apply -k deploy/`), unless it runs in another namespace"
        return [f"{begun}: there is no Deployment {OPERATOR.name} in namespace {OPERATOR.namespace}; {mend}"]
    except Forbidden:
        return [f"{begun}: ask whoever runs the cluster whether it is installed"]
    if not at(found, ("status", "readyReplicas")):
        return [f"{begun}: no Pod of its Deployment {OPERATOR.name} in namespace {OPERATOR.namespace} is ready"]
    if pool.status.conditions:  # the spec may have changed a moment ago
        return []
    return [f"{begun}, though it is ready: see that it watches this namespace, and its log"]


def _age_s(pool: InferencePool) -> float:
    created = pool.metadata.creation_timestamp
    return time.time() - datetime.fromisoformat(created).timestamp() if created else 0.0
