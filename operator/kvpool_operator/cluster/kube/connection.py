"""Where the API server is and who we are: by the Pod's service account, or by a kubeconfig."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from aiohttp import TraceConfig
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException
from yaml import YAMLError

from kvpool_operator.cluster.kube.cluster import KubeCluster
from kvpool_operator.cluster.kube.pace import Pace


class NoCredentials(Exception):
    """Nothing tells where the API server is and who we are; the text says what is missing, and the mend."""


@contextlib.asynccontextmanager
async def connect(
    kubeconfig: Path | None = None,
    context: str | None = None,
    *,
    pace: Pace | None = None,
    trace_configs: Sequence[TraceConfig] = (),
) -> AsyncIterator[KubeCluster]:
    """A cluster by the service account of this Pod, or by `kubeconfig`; closed at the end. Raises NoCredentials.

    `trace_configs` see each HTTP request.
    Tokens rotate: the service account's is read again each minute, and either kind when the API server refuses it.
    """
    configuration = Configuration()
    # aiohttp would look for proxies and a .netrc anew for each call, in a thread: more than half of what a call costs.
    configuration.client_session_kwargs = {"trust_env": False}
    configuration.trace_configs = list(trace_configs)

    async def load() -> None:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                str(kubeconfig), context=context, client_configuration=configuration, persist_config=False
            )

    try:
        await load()
    except (ConfigException, OSError, ValueError, YAMLError) as error:
        raise NoCredentials(_mend(kubeconfig, error)) from error
    configuration.proxy = configuration.proxy or _proxy_of(configuration.host)
    async with ApiClient(configuration) as api:
        yield KubeCluster(api, renew=load, pace=pace)


def _proxy_of(server: str) -> str | None:
    """What HTTPS_PROXY, HTTP_PROXY and NO_PROXY say of the API server, as kubectl reads them."""
    url = urlsplit(server)
    return None if proxy_bypass(url.netloc) else getproxies().get(url.scheme)


def _mend(kubeconfig: Path | None, error: Exception) -> str:
    if kubeconfig is None:
        return (
            f"this process has no service account of a Kubernetes Pod ({error}); run it in the cluster "
            "(kubectl apply -k deploy/), or name a kubeconfig"
        )
    why = error if kubeconfig.exists() else "there is no such file"
    return f"kubeconfig {kubeconfig}: {why}; name one that `kubectl --kubeconfig {kubeconfig} get ns` works with"
