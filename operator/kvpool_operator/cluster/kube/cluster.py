"""`KubeCluster`: the Cluster seam over the API server's REST paths."""

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from typing import Literal

from kubernetes.aio.client import ApiClient
from kvpool_api.manifest import as_list, as_map, as_text, at

from kvpool_operator.cluster.event_times import latest
from kvpool_operator.cluster.kube import paths
from kvpool_operator.cluster.kube.calls import Calls, Renew, Request
from kvpool_operator.cluster.kube.pace import Pace
from kvpool_operator.cluster.kube.watch import lasting
from kvpool_operator.cluster.seam import (
    EVENT,
    AlreadyExists,
    Change,
    Expired,
    Kind,
    Listing,
    Manifest,
    NotFound,
    Ref,
    Refused,
    Stale,
    Unavailable,
)

WRITERS = 5
"""So many others may write an object between our reading it and writing it."""
STRICT = "Strict"
"""A field that the API server does not know is an error, not a loss."""
NO_VERSION = "1"
"""A resource version that no object has: etcd counts its empty store as 1."""


async def _nothing() -> None:
    """Credentials that cannot be renewed."""


class KubeCluster:
    """Objects behind an API server.

    Kinds name their group, version and plural, so nothing is discovered and every call is one request. What may be
    tried again is: `calls`, `watch`.
    """

    def __init__(self, api: ApiClient, *, renew: Renew = _nothing, pace: Pace | None = None) -> None:
        """`api` stays the caller's; `renew` reads its credentials anew when they are refused."""
        self.api = api
        self._pace = pace or Pace()
        self._calls = Calls(api, renew, self._pace)

    async def create(self, manifest: Manifest, *, manager: str) -> Manifest:
        """By an apply with a resource version, which the API server heeds only where the object exists.

        A POST would leave an owner (operation Update) that later applies of this manager cannot take fields back from.
        """
        ref = paths.ref_of(manifest)
        unseen: Manifest = {**manifest, "metadata": {**as_map(manifest["metadata"]), "resourceVersion": NO_VERSION}}
        try:
            return await self.apply(unseen, manager=manager, force=True)
        except Stale as stale:
            raise AlreadyExists(f'{ref.kind.plural} "{ref.name}" already exists') from stale

    async def apply(
        self, manifest: Manifest, *, manager: str, force: bool, subresource: Literal["status"] | None = None
    ) -> Manifest:
        ref = paths.ref_of(manifest)
        query = paths.query({"fieldManager": manager, "force": force, "fieldValidation": STRICT})
        path = paths.single(ref, subresource) + query
        uid = as_text(at(manifest, ("metadata", "uid")))
        if subresource is None or not uid:
            return await self._applied(path, manifest)
        return await self._applied_to(uid, ref, path, manifest)

    async def _applied(self, path: str, manifest: Manifest) -> Manifest:
        return await self._object(Request("PATCH", path, manifest, "application/apply-patch+yaml"))

    async def _applied_to(self, uid: str, ref: Ref, path: str, manifest: Manifest) -> Manifest:
        """An apply to exactly this object, where the API server takes no notice of the uid.

        In an apply to a subresource it heeds the resourceVersion alone: so that of the object with the uid is named,
        and read again while others write.
        """
        for _ in range(WRITERS):
            live = await self.get(ref)
            if at(live, ("metadata", "uid")) != uid:
                break
            meta = {**as_map(manifest["metadata"]), "resourceVersion": at(live, ("metadata", "resourceVersion"))}
            with contextlib.suppress(Stale):
                return await self._applied(path, {**manifest, "metadata": meta})
        raise Stale(f"{paths.single(ref)}: no more the one with uid {uid}, or written by too many; read it again")

    async def get(self, ref: Ref) -> Manifest:
        return await self._object(Request("GET", paths.single(ref)))

    async def list(self, kind: Kind, *, namespace: str | None, labels: Mapping[str, str]) -> Listing:
        """In pages of one version; where that is forgotten meanwhile, at once."""
        path, selector = paths.collection(kind, namespace), paths.selector(labels)
        try:
            pages = [page async for page in self._pages(path, selector, limit=self._pace.page)]
        except Expired:
            pages = [page async for page in self._pages(path, selector, limit=None)]
        items = tuple(item for page in pages for item in _items(kind, page))
        return Listing(items, as_text(at(pages[0], ("metadata", "resourceVersion"))))

    async def delete(self, ref: Ref, *, uid: str, grace_s: int | None = None) -> None:
        options: Manifest = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace_s is not None:
            options["gracePeriodSeconds"] = grace_s
        try:
            await self._calls.answer(Request("DELETE", paths.single(ref), options))
        except Stale as stale:
            if "UID" not in str(stale):
                raise Unavailable(str(stale)) from stale
            raise NotFound(f'{ref.kind.plural} "{ref.name}" with uid {uid} not found: it was replaced') from stale

    async def ended_log(self, pod: Ref, *, container: str, lines: int) -> str:
        query = paths.query({"container": container, "previous": True, "tailLines": lines})
        request = Request("GET", paths.single(pod, "log") + query)
        try:
            log = await self._calls.answer_at_once(request, within_s=self._pace.log_s)
        except Refused as refused:
            if type(refused) is Refused:
                return ""  # nothing has ended yet
            raise
        return log.decode(errors="replace")

    async def latest_event(self, about: Ref, *, uid: str) -> Manifest | None:
        query = paths.query({"fieldSelector": f"involvedObject.uid={uid}"})
        told = await self._object(Request("GET", paths.collection(EVENT, about.namespace) + query))
        return latest(_items(EVENT, told))

    def watch(
        self, kind: Kind, *, namespace: str | None, labels: Mapping[str, str], resource_version: str
    ) -> AsyncGenerator[Change, None]:
        path = paths.collection(kind, namespace)

        def request(version: str, ends_after_s: int) -> Request:
            asked: paths.Parameters = {
                "watch": True,
                "allowWatchBookmarks": True,
                "labelSelector": paths.selector(labels),
                "resourceVersion": version,
                "timeoutSeconds": ends_after_s,
            }
            return Request("GET", path + paths.query(asked))

        return lasting(self._calls, request, resource_version, self._pace)

    async def _pages(self, path: str, selector: str, *, limit: int | None) -> AsyncIterator[Manifest]:
        rest = ""
        while True:
            query = paths.query({"labelSelector": selector, "limit": limit, "continue": rest})
            page = await self._object(Request("GET", path + query))
            yield page
            rest = as_text(at(page, ("metadata", "continue")))
            if not rest:
                return

    async def _object(self, request: Request) -> Manifest:
        return as_map(json.loads(await self._calls.answer(request)))


def _items(kind: Kind, page: Manifest) -> Iterator[Manifest]:
    """Listed objects do not name their kind: the list does."""
    for item in as_list(page.get("items")):
        yield {"apiVersion": kind.api_version, "kind": kind.kind, **as_map(item)}
