"""Puts one operator process together and runs it until it is told to end."""

import asyncio
import logging
import socket
import time

import aiohttp
import kopf
from kopf._core.engines.peering import Identity
from prometheus_client import CollectorRegistry

from kvpool_operator.cluster.kube import KubeCluster, NoCredentials, connect
from kvpool_operator.loop import Deps, Loops
from kvpool_operator.routers import HttpRouterAdmin
from kvpool_operator.runtime.api_calls import counted, followed
from kvpool_operator.runtime.kopf_settings import WATCH_LIMIT_S, kopf_settings
from kvpool_operator.runtime.login import Login
from kvpool_operator.runtime.metrics import OperatorMetrics
from kvpool_operator.runtime.metrics_server import ALL_ADDRESSES, MetricsServer
from kvpool_operator.runtime.options import Options, StartError
from kvpool_operator.runtime.preflight import preflight
from kvpool_operator.runtime.pulse import Pulse
from kvpool_operator.runtime.registry import Runtime, build_registry
from kvpool_operator.runtime.watched import scopes, watched_paths

LOG = logging.getLogger(__name__)
IDENTITY = Identity("kvpool-operator")
"""Told, or kopf asks for the user's name, and a container's uid has none. Nobody sees it: we have no peers."""
ROUND_SLACK_S = 60.0
"""So much longer than the resync interval a pool may be without a round."""


async def run(options: Options) -> None:
    """Runs pools until SIGTERM or SIGINT. Raises StartError."""
    pulse = Pulse(
        watched_paths(options.namespaces),
        clock=time.monotonic,
        watch_limit_s=WATCH_LIMIT_S,
        round_limit_s=options.settings.resync_s + ROUND_SLACK_S,
    )
    numbers = CollectorRegistry()
    metrics, server = OperatorMetrics(numbers, pulse, time.time), MetricsServer(numbers, options.metrics_port)
    _require_free(options.health_port)
    try:
        async with (
            connect(options.kubeconfig, trace_configs=[counted(metrics.called)]) as cluster,
            aiohttp.ClientSession() as http,
        ):
            await preflight(cluster, options.namespaces, options.settings)
            await server.start()
            routers = HttpRouterAdmin(http, options.settings.admin_timeout_s)
            deps = Deps(cluster, routers, options.settings, journal=metrics, hears_of_children=True)
            await _operate(options, deps, cluster, pulse, metrics, server)
    except NoCredentials as error:
        raise StartError(str(error)) from error
    finally:
        await server.stop()


async def _operate(
    options: Options, deps: Deps, cluster: KubeCluster, pulse: Pulse, metrics: OperatorMetrics, server: MetricsServer
) -> None:
    async with asyncio.TaskGroup() as tasks:
        loops = Loops(deps, tasks)
        paths = frozenset(watched_paths(options.namespaces))
        traces = [counted(metrics.called), followed(paths, opened=pulse.watch_opened, listed=loops.wake_all)]
        login = Login(cluster, scopes(options.namespaces)[0], traces)
        LOG.info("running the pools of %s", ", ".join(options.namespaces) or "all namespaces")
        await kopf.operator(
            registry=build_registry(Runtime(loops, pulse, login, server.stop)),
            settings=kopf_settings(),
            clusterwide=not options.namespaces,
            namespaces=options.namespaces,
            standalone=True,
            identity=IDENTITY,
            liveness_endpoint=f"http://{ALL_ADDRESSES}:{options.health_port}/healthz",
        )


def _require_free(port: int) -> None:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((ALL_ADDRESSES, port))
        except OSError as error:
            raise StartError(f"port {port} cannot be had ({error.strerror}); set --health-port.") from error
