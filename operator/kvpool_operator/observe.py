"""Looks at one pool: fresh lists and gets, and what its routers answer. The only reader."""

import asyncio
import base64
import binascii
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from kvpool_api import labels
from kvpool_api.manifest import Manifest, as_map, as_text, at
from kvpool_api.pool import InferencePool
from kvpool_api.status import InferencePoolStatus
from kvpool_api.wire import ADMIN_PORT_NAME, ROUTER_ADMIN_PORT
from pydantic import ValidationError

from kvpool_operator.build.access import TOKEN_KEY
from kvpool_operator.build.children import children
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import KINDS, Cluster, ClusterError, NotFound, Ref
from kvpool_operator.manifests import (
    annotation,
    condition,
    container_statuses,
    has_ended,
    is_terminating,
    is_true,
    label,
    name_of,
    port_named,
    seconds,
    uid_of,
)
from kvpool_operator.observed import ChildKey, Engine, Observed, Router
from kvpool_operator.ownership import controller, is_controlled_by, is_strangers
from kvpool_operator.routers import RouterAdmin, RouterSilent, TokenRefused
from kvpool_operator.settings import Settings
from kvpool_operator.status.causes import waits_without_a_word, whose_log_is_needed

LOG_LINES = 2000
"""vLLM tells one failure in each of its processes; the root cause is the first of these tracebacks."""


class NotUnderstood(Exception):
    """The pool's spec holds what this operator does not know; `pool` is the object as it was read."""

    def __init__(self, pool: Manifest, words: str) -> None:
        super().__init__(words)
        self.pool = pool


async def observe(
    cluster: Cluster,
    routers: RouterAdmin,
    ref: Ref,
    settings: Settings,
    known: Mapping[ChildKey, Manifest] | None = None,
) -> Observed:
    """Everything about the pool, read now, but for children that the caller knows to be as they were.

    Raises NotFound (the pool is gone), NotUnderstood and Unavailable.
    """
    pool = pool_of(await cluster.get(ref))
    name, namespace = pool.metadata.name, pool.metadata.namespace
    engine_pods, router_pods, owned, secret = await asyncio.gather(
        cluster.list(seam.POD, namespace=namespace, labels=labels.engine_selector(name)),
        cluster.list(seam.POD, namespace=namespace, labels=labels.router_selector(name)),
        _children(cluster, pool, settings, known),
        _get(cluster, Ref(seam.SECRET, namespace, labels.admin_secret_name(name))),
    )
    token = None if secret is None or is_strangers(secret, pool) else _token(secret)
    ours = [pod for pod in engine_pods.items if is_controlled_by(pod, pool.metadata.uid) or not controller(pod)]
    engines = await asyncio.gather(*(_with_words(cluster, namespace, engine_of(pod)) for pod in ours))
    alive = [pod for pod in router_pods.items if not has_ended(pod)]
    return Observed(
        pool=pool,
        engines=tuple(sorted(engines, key=lambda engine: engine.name)),
        routers=tuple(await asyncio.gather(*(_asked(routers, router_of(pod), token, name) for pod in alive))),
        children=owned,
        token=token,
        secret=secret or {},
    )


def pool_of(manifest: Manifest) -> InferencePool:
    """The pool, typed. Raises NotUnderstood."""
    try:
        pool = InferencePool.model_validate({**manifest, "status": {}})
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join(map(str, first["loc"]))
        raise NotUnderstood(manifest, f"{path}: {first['msg']}; upgrade the operator, or remove the field") from error
    return pool.model_copy(update={"status": status_as_read(manifest)})


def status_as_read(manifest: Manifest) -> InferencePoolStatus:
    """The pool's status; one that another release has written and this one does not understand is read as none."""
    try:
        return InferencePoolStatus.model_validate(as_map(manifest.get("status")))
    except ValidationError:
        return InferencePoolStatus()


def engine_of(pod: Manifest) -> Engine:
    """The facts of one engine Pod."""
    ready = condition(pod, "ContainersReady")
    is_ready = ready.get("status") == "True"
    created = seconds(at(pod, ("metadata", "creationTimestamp"))) or 0.0
    slot = label(pod, labels.SLOT)
    return Engine(
        name=name_of(pod),
        uid=uid_of(pod),
        slot=int(slot) if slot.isdecimal() else -1,
        template_hash=label(pod, labels.TEMPLATE_HASH),
        applied_template=annotation(pod, labels.APPLIED_TEMPLATE) or "",
        builder_revision=annotation(pod, labels.BUILDER_REVISION) or "",
        created_at=created,
        terminating=is_terminating(pod),
        failed_at=_failed_at(pod, created),
        containers_ready_since=(seconds(ready.get("lastTransitionTime")) or created) if is_ready else None,
        lost_contact=_lost_contact(pod),
        routable=is_true(pod, labels.ROUTABLE_GATE),
        draining_since=seconds(annotation(pod, labels.DRAINING)),
        pod=pod,
    )


def router_of(pod: Manifest) -> Router:
    """The facts of one router Pod, before it is asked."""
    statuses = [status for status in container_statuses(pod) if status.get("name") == labels.ROUTER_CONTAINER]
    running = next((as_map(found) for each in statuses if (found := at(each, ("state", "running"))) is not None), None)
    return Router(
        name=name_of(pod),
        terminating=is_terminating(pod),
        ready=is_true(pod, "Ready"),
        running=running is not None,
        pod=pod,
        has_been_ready=_has_been_ready(pod, as_map(running)),
    )


def _has_been_ready(pod: Manifest, running: Manifest) -> bool:
    """Ready is False from before a Pod's containers begin, so that a later time means that it was True in between."""
    ready, begun = condition(pod, "Ready"), seconds(running.get("startedAt"))
    changed = seconds(ready.get("lastTransitionTime"))
    return ready.get("status") == "True" or (begun is not None and changed is not None and changed > begun)


def _failed_at(pod: Manifest, created: float) -> float | None:
    """When the Pod ended for good, or its node stopped answering for so long that Kubernetes wants it gone."""
    ready = condition(pod, "Ready")
    if has_ended(pod):
        return seconds(ready.get("lastTransitionTime")) or created
    given_up = condition(pod, "DisruptionTarget")
    if given_up.get("status") == "True" and _lost_contact(pod):
        return seconds(given_up.get("lastTransitionTime")) or created
    return None


def _lost_contact(pod: Manifest) -> bool:
    """The node of this Pod has fallen silent.

    Nobody says so outright. The node controller sets Ready of its Pods to False and leaves ContainersReady as the
    kubelet last told it, so the two contradict each other. A live kubelet shows the same pair while the readiness gate
    is still shut, but then gives the reason ReadinessGatesNotReady.
    """
    ready = condition(pod, "Ready")
    taken_away = ready.get("status") == "False" and ready.get("reason") != "ReadinessGatesNotReady"
    return ready.get("status") == "Unknown" or (taken_away and is_true(pod, "ContainersReady"))


async def _with_words(cluster: Cluster, namespace: str, engine: Engine) -> Engine:
    """With what the Pod's status does not hold: the log of a crash (its 2 KiB end amid vLLM's last traceback), or the
    Event that tells what a container waits for.
    """
    ref = Ref(seam.POD, namespace, engine.name)
    with contextlib.suppress(ClusterError):  # words that cannot be had must not stop the loop
        if (container := whose_log_is_needed(engine.pod)) is not None:
            log = await cluster.ended_log(ref, container=container, lines=LOG_LINES)
            return replace(engine, log=log, log_of=container)
        if waits_without_a_word(engine.pod):
            return replace(engine, last_event=await cluster.latest_event(ref, uid=engine.uid) or {})
    return engine


async def _asked(admin: RouterAdmin, router: Router, token: str | None, pool: str) -> Router:
    address = as_text(at(router.pod, ("status", "podIP")))
    secret = f"the Secret {labels.admin_secret_name(pool)}"
    if not address:
        return replace(router, silent="it has no address yet")
    if token is None:
        return replace(router, silent=f"{secret} holds no token to ask it with yet")
    try:
        state = await admin.state(address, port_named(router.pod, ADMIN_PORT_NAME, ROUTER_ADMIN_PORT), token)
    except TokenRefused as refused:
        return replace(router, silent=f"{refused}, so it does not know the token of {secret}", mend=_token_mend(pool))
    except RouterSilent as silent:
        return replace(router, silent=str(silent))
    return replace(router, state=state)


def _token_mend(pool: str) -> str:
    restart = f"kubectl rollout restart deployment {labels.router_name(pool)}"
    return f"a changed Secret reaches routers within about two minutes; if this stays, restart them ({restart})"


async def _children(
    cluster: Cluster, pool: InferencePool, settings: Settings, known: Mapping[ChildKey, Manifest] | None
) -> Mapping[ChildKey, Manifest]:
    if known is not None:
        return known
    wanted = [_ref(child) for child in children(pool, settings)]
    found = await asyncio.gather(*(_get(cluster, ref) for ref in wanted))
    return {(ref.kind.kind, ref.name): child for ref, child in _present(zip(wanted, found, strict=True))}


def _present(pairs: Iterable[tuple[Ref, Manifest | None]]) -> Iterable[tuple[Ref, Manifest]]:
    return ((ref, child) for ref, child in pairs if child is not None)


def _ref(manifest: Manifest) -> Ref:
    kind = KINDS[as_text(manifest["kind"])]
    return Ref(kind, as_text(at(manifest, ("metadata", "namespace"))), name_of(manifest))


async def _get(cluster: Cluster, ref: Ref) -> Manifest | None:
    try:
        return await cluster.get(ref)
    except NotFound:
        return None


def _token(secret: Manifest | None) -> str | None:
    try:
        return base64.b64decode(as_text(at(secret, ("data", TOKEN_KEY))), validate=True).decode() or None
    except (binascii.Error, UnicodeDecodeError):
        return None
