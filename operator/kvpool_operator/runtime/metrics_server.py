"""`/metrics` over HTTP."""

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.aiohttp import make_aiohttp_handler

from kvpool_operator.runtime.options import StartError

ALL_ADDRESSES = "0.0.0.0"  # noqa: S104 - a NetworkPolicy says who may connect


class MetricsServer:
    """Answers from `start` to `stop`."""

    def __init__(self, registry: CollectorRegistry, port: int) -> None:
        self._port = port
        app = web.Application()
        app.add_routes([web.get("/metrics", make_aiohttp_handler(registry))])
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Raises StartError where the port is taken."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, ALL_ADDRESSES, self._port).start()
        except OSError as error:
            await self.stop()
            raise StartError(f"port {self._port} cannot be had ({error.strerror}); set --metrics-port.") from error

    async def stop(self) -> None:
        """Connections are closed; may be called twice."""
        await self._runner.cleanup()
