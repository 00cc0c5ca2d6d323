"""How kopf gets to the API server: by the same credentials as our own client, in a session that can be followed."""

from http import HTTPStatus

import aiohttp
import kopf
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse, hdrs

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster
from kvpool_operator.cluster.seam import ClusterError
from kvpool_operator.runtime.preflight import NOTHING

RETRY_S = 5.0


class Login:
    """Makes the session of kopf's watches.

    Each request takes the credentials as they are then, since a service account's token changes within the hour. Were
    the old one left to be refused, kopf would close the session, and aiohttp breaks what still streams in a way that
    ends kopf.
    """

    def __init__(self, cluster: KubeCluster, namespace: str | None, traces: list[aiohttp.TraceConfig]) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._traces = traces

    async def log_in(self, **_: object) -> kopf.AiohttpSession:
        """Raises kopf.TemporaryError where the API server accepts no credentials of ours."""
        try:
            await self._renew()
        except ClusterError as error:
            raise kopf.TemporaryError(f"cannot log in: {error}", delay=RETRY_S) from error
        api = self._cluster.api
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=api.rest_client.ssl_context),
            headers={hdrs.USER_AGENT: "kvpool-operator"},
            middlewares=(self._authorized,),
            proxy=api.configuration.proxy,
            trace_configs=self._traces,
        )
        return kopf.AiohttpSession(server=api.configuration.host, aiohttp_session=session)

    async def _authorized(self, request: ClientRequest, send: ClientHandlerType) -> ClientResponse:
        request.headers.update(await self._headers())
        response = await send(request)
        if response.status == HTTPStatus.UNAUTHORIZED:
            response.release()
            await self._renew()
            request.headers.update(await self._headers())
            response = await send(request)
        return response

    async def _renew(self) -> None:
        """Our own client reads its credentials anew when they are refused."""
        await self._cluster.list(seam.POOL, namespace=self._namespace, labels=NOTHING)

    async def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        await self._cluster.api.update_params_for_auth(
            headers, None, ["BearerToken"], resource_path="/", method="GET", body=None
        )
        return headers
