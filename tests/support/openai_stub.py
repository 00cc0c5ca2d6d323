"""A completions server that answers at once and counts nothing: for tests of clients."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass
class Stub:
    """`interval_s` between tokens; `cached` of every prompt's tokens; `refuse` answers with that status instead."""

    interval_s: float = 0.0
    cached: int = 0
    refuse: int | None = None
    cut_after: int | None = None
    error_after: int | None = None
    url: str = ""
    bodies: list[dict[str, object]] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/completions", self.completions)
        return app

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "stub"}, {"id": "other"}]})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        asked = json.loads(await request.read())
        self.request_ids.append(request.headers["X-Request-Id"])
        self.bodies.append(asked)
        if self.refuse is not None:
            return web.json_response({"error": {"type": "Overloaded", "message": "no"}}, status=self.refuse)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await self._stream(response, asked)
        return response

    async def _stream(self, response: web.StreamResponse, asked: dict[str, object]) -> None:
        await response.write(b": waiting\n\n")
        for n in range(asked["max_tokens"]):
            if n == self.cut_after:
                return None
            if n == self.error_after:
                return await response.write(b'data: {"error":{"type":"EngineGone","message":"gone"}}\n\n')
            await response.write(b'data: {"choices":[{"index":0,"text":"a"}],"usage":null}\n\n')
            await asyncio.sleep(self.interval_s)
        usage = {
            "prompt_tokens": len(asked["prompt"]),
            "completion_tokens": asked["max_tokens"],
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }
        await response.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
        return None


@asynccontextmanager
async def running(stub: Stub) -> AsyncIterator[Stub]:
    runner = web.AppRunner(stub.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    stub.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield stub
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    web.run_app(Stub(interval_s=float(sys.argv[2])).app(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
