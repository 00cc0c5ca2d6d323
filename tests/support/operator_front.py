"""An API server over real sockets that also kopf can talk to: the front of a StoreCluster, with discovery."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from aiohttp import web
from api_front import ApiFront, served
from kvpool_operator.cluster import seam
from store_cluster import StoreCluster

VERBS = ["create", "delete", "get", "list", "patch", "watch"]
ALWAYS_THERE = (
    seam.Kind("v1", "Namespace", "namespaces"),
    seam.Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions"),
)


@dataclass
class OperatorFront(ApiFront):
    """Keeps no connection open: kopf waits at its end for every task of the process, the server's too."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        answer = await self._answer_to(request)
        answer.force_close()
        return answer

    async def _answer_to(self, request: web.Request) -> web.StreamResponse:
        found = _discovery().get(request.path)
        if found is not None:
            self.seen.append(request)
            return web.json_response(found)
        told = dict(request.query)
        if "=" not in told.get("labelSelector", "="):  # the front knows equality only; nothing here lacks the label
            del told["labelSelector"]
        if "watch" in told:
            told.setdefault("timeoutSeconds", "60")
        return await super().answer(request.clone(rel_url=request.rel_url.with_query(told)))

    def watched(self) -> set[str]:
        return {request.path.rpartition("/")[2] for request in self.watches}


def _discovery() -> dict[str, dict]:
    kinds = (*seam.KINDS.values(), *ALWAYS_THERE)
    groups = sorted({kind.api_version for kind in kinds if "/" in kind.api_version})
    answers: dict[str, dict] = {"/api": {"versions": ["v1"]}, "/apis": {"groups": [_group(each) for each in groups]}}
    for version in ("v1", *groups):
        found = [_resource(kind) for kind in kinds if kind.api_version == version]
        answers[f"/api{'s' if '/' in version else ''}/{version}"] = {"resources": found}
    return answers


def _group(version: str) -> dict:
    group, _, short = version.partition("/")
    told = {"groupVersion": version, "version": short}
    return {"name": group, "versions": [told], "preferredVersion": told}


def _resource(kind: seam.Kind) -> dict:
    namespaced = kind not in ALWAYS_THERE
    singular = kind.kind.lower()
    return {"name": kind.plural, "singularName": singular, "kind": kind.kind, "namespaced": namespaced, "verbs": VERBS}


@asynccontextmanager
async def operator_front(cluster: StoreCluster) -> AsyncIterator[OperatorFront]:
    async with served(OperatorFront(cluster)) as front:
        yield front


def kubeconfig(folder: Path, url: str) -> Path:
    path = folder / "kubeconfig"
    user = {"name": "u", "user": {"token": "t"}}
    context = {"name": "c", "context": {"cluster": "c", "user": "u"}}
    whole = {"clusters": [{"name": "c", "cluster": {"server": url}}], "users": [user], "contexts": [context]}
    path.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "Config", "current-context": "c", **whole}))
    return path
