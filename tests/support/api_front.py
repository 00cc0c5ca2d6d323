"""Any `Cluster` as an API server over real sockets, with troubles on request.

Held to the real server by the contract suite: what a client of this front sees of it, it sees of a real API server too.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster, Pace
from kvpool_operator.cluster.kube.calls import Renew
from kvpool_operator.cluster.kube.cluster import NO_VERSION
from kvpool_operator.cluster.seam import Cluster, Kind, Ref

Trouble = Callable[[web.Request], Awaitable[web.StreamResponse | None]]
"""Answers a request in the cluster's stead; None: lets it pass after all."""

QUICK = Pace(call_s=10.0, log_s=10.0, waits_s=(0.001, 0.002, 0.003), patience_s=0.05, watch_s=1.0, watch_slack_s=1.0)
RESOURCES = {kind.plural: kind for kind in seam.KINDS.values()}
STATUS = (
    (seam.AlreadyExists, 409, "AlreadyExists", ()),
    (seam.FieldConflict, 409, "Conflict", ("FieldManagerConflict",)),
    (seam.Stale, 409, "Conflict", ()),
    (seam.NotFound, 404, "NotFound", ()),
    (seam.Expired, 410, "Expired", ()),
    (seam.Refused, 422, "Invalid", ()),
    (seam.Unavailable, 503, "ServiceUnavailable", ()),
)


def status(code: int, message: str, reason: str = "", causes: tuple[str, ...] = (), **details: object) -> dict:
    """A `Status`, as API servers answer what is no success."""
    named = {"causes": [{"reason": cause} for cause in causes]} if causes else {}
    shape = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return {**shape, "message": message, "reason": reason, "code": code, "details": {**named, **details}}


def refusing(
    code: int,
    message: str = "in the test",
    *,
    retry_after: str | None = None,
    reason: str = "",
    causes: tuple[str, ...] = (),
    **details: object,
) -> Trouble:
    headers = {"Retry-After": retry_after} if retry_after is not None else {}

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(status(code, message, reason), status=code, headers=headers)

    return answer


def saying(body: str, code: int = 200) -> Trouble:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=body, status=code)

    return answer


def slow(seconds: float) -> Trouble:
    async def wait(request: web.Request) -> None:
        await asyncio.sleep(seconds)

    return wait


async def hanging_up(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


@dataclass
class ApiFront:
    """`troubles` answer the next requests, one each; `seen` are all that came."""

    cluster: Cluster
    troubles: deque[Trouble] = field(default_factory=deque)
    seen: list[web.Request] = field(default_factory=list)
    watches: list[web.Request] = field(default_factory=list)
    url: str = ""

    def asked(self) -> list[str]:
        """Each request as `METHOD last-part-of-path`."""
        return [f"{each.method} {each.path.rpartition('/')[2]}" for each in self.seen]

    def cut_watches(self) -> None:
        for watch in self.watches:
            assert watch.transport is not None
            watch.transport.abort()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if self.troubles and (told := await self.troubles.popleft()(request)) is not None:
            return told
        try:
            return await self._answer(request)
        except seam.ClusterError as error:
            told = _status_of(error)
            return web.json_response(told, status=told["code"])

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        kind, namespace, name, subresource = _place(request.path)
        if not name:
            return await (self._watch if "watch" in request.query else self._list)(request, kind, namespace)
        assert namespace is not None
        ref = Ref(kind, namespace, name)
        if subresource == "log":
            return await self._log(request, ref)
        return web.json_response(await self._of_one(request, ref, subresource))

    async def _of_one(self, request: web.Request, ref: Ref, subresource: str | None) -> dict:
        if request.method == "GET":
            return await self.cluster.get(ref)
        body = await request.json()
        if request.method == "DELETE":
            await self.cluster.delete(ref, uid=body["preconditions"]["uid"], grace_s=body.get("gracePeriodSeconds"))
            return {"kind": "Status", "status": "Success"}
        assert request.content_type == "application/apply-patch+yaml"
        assert request.query["fieldValidation"] == "Strict"
        manager, force = request.query["fieldManager"], request.query["force"] == "true"
        how = "status" if subresource == "status" else None
        if how is None and body["metadata"].get("resourceVersion") == NO_VERSION:  # here the first object has it
            del body["metadata"]["resourceVersion"]
            return await self.cluster.create(body, manager=manager)
        return await self.cluster.apply(body, manager=manager, force=force, subresource=how)

    async def _log(self, request: web.Request, ref: Ref) -> web.Response:
        lines = int(request.query["tailLines"])
        text = await self.cluster.ended_log(ref, container=request.query["container"], lines=lines)
        if text:
            return web.Response(text=text)
        return web.json_response(status(400, "previous terminated container not found", "BadRequest"), status=400)

    async def _list(self, request: web.Request, kind: Kind, namespace: str | None) -> web.Response:
        if field := request.query.get("fieldSelector"):
            assert namespace is not None
            event = await self.cluster.latest_event(Ref(kind, namespace, ""), uid=field.partition("=")[2])
            return web.json_response({"kind": "EventList", "items": [_nameless(event)] if event else []})
        found = await self.cluster.list(kind, namespace=namespace, labels=_labels(request))
        first, most = int(request.query.get("continue", 0)), int(request.query.get("limit", 0)) or len(found.items)
        page = found.items[first : first + most]
        rest = {"continue": str(first + most)} if first + most < len(found.items) else {}
        meta = {"resourceVersion": found.resource_version, **rest}
        items = [_nameless(item) for item in page]
        return web.json_response({"kind": f"{kind.kind}List", "metadata": meta, "items": items})

    async def _watch(self, request: web.Request, kind: Kind, namespace: str | None) -> web.StreamResponse:
        """Changes, then, when its time is over, a bookmark."""
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        self.watches.append(request)
        try:
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                await self._tell_changes(request, response, kind, namespace)
        except TimeoutError:
            version = (await self.cluster.list(kind, namespace=namespace, labels={})).resource_version
            await _say(response, "BOOKMARK", {"kind": kind.kind, "metadata": {"resourceVersion": version}})
        except seam.ClusterError as error:
            await _say(response, "ERROR", _status_of(error))
        finally:
            self.watches.remove(request)
        return response

    async def _tell_changes(
        self, request: web.Request, response: web.StreamResponse, kind: Kind, namespace: str | None
    ) -> None:
        version = request.query["resourceVersion"]
        watched = self.cluster.watch(kind, namespace=namespace, labels=_labels(request), resource_version=version)
        async with aclosing(watched) as changes:
            async for change in changes:
                await _say(response, change.type, change.object)


Front = TypeVar("Front", bound=ApiFront)


async def _say(response: web.StreamResponse, kind: str, told: dict) -> None:
    await response.write(json.dumps({"type": kind, "object": told}).encode() + b"\n")


def _nameless(item: seam.Manifest) -> dict:
    """As a list holds it."""
    return {key: value for key, value in item.items() if key not in ("apiVersion", "kind")}


def _status_of(error: seam.ClusterError) -> dict:
    code, reason, causes = next(told for kind, *told in STATUS if isinstance(error, kind))
    message = "UID in precondition" if isinstance(error, seam.Stale) else str(error)
    return status(code, message, reason, causes)


def _labels(request: web.Request) -> dict[str, str]:
    return dict(pair.split("=") for pair in request.query.get("labelSelector", "").split(",") if pair)


def _place(path: str) -> tuple[Kind, str | None, str | None, str | None]:
    """(kind, namespace, name, subresource) of a path."""
    parts = path.split("/")[3:] if path.startswith("/api/") else path.split("/")[4:]
    namespace = parts[1] if parts[0] == "namespaces" else None
    plural, name, subresource, *_ = [*(parts[2:] if namespace else parts), None, None]
    return RESOURCES[str(plural)], namespace, name, subresource


@asynccontextmanager
async def api_front(cluster: Cluster) -> AsyncIterator[ApiFront]:
    async with served(ApiFront(cluster)) as front:
        yield front


@asynccontextmanager
async def served(front: Front) -> AsyncIterator[Front]:
    """At a port of this machine, which it knows as its `url`."""
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", front.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        front.url = f"http://{host}:{port}"
        yield front
    finally:
        await runner.cleanup()


@asynccontextmanager
async def kube_over(front: ApiFront, pace: Pace = QUICK, renew: Renew | None = None) -> AsyncIterator[KubeCluster]:
    """A KubeCluster that talks to the front."""
    async with ApiClient(Configuration(host=front.url, api_key={"BearerToken": "Bearer first"})) as api:
        yield KubeCluster(api, pace=pace, renew=renew) if renew else KubeCluster(api, pace=pace)
