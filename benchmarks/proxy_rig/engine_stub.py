"""An engine that computes nothing: streams chunks of a chat completion at a fixed pace, for next to no CPU.

`python -m benchmarks.proxy_rig.engine_stub PORT [untold]`. A prompt's `max_tokens` says how many chunks; the pace is
2 ms. It tells 768 cached tokens of every prompt; `untold` none, since a router that has events would not believe it.
"""

import asyncio
import re
import sys
from typing import cast

import uvloop

PACE_S = 0.002
_CHUNK = (
    b'data: {"id":"cmpl-0123456789abcdef","object":"text_completion","created":1795493548,"model":"stub","choices":'
    b'[{"index":0,"text":" token","logprobs":null,"finish_reason":null}],"usage":null}\n\n'
)
_USAGE = (
    b'data: {"id":"cmpl-0123456789abcdef","object":"text_completion","created":1795493548,"model":"stub","choices":[],'
    b'"usage":{"prompt_tokens":1024,"total_tokens":1088,"completion_tokens":64,"prompt_tokens_details":'
    b'{"cached_tokens":768}}}\n\ndata: [DONE]\n\n'
)
_HEAD = (
    b"HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_MAX_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
_LENGTH = re.compile(rb"content-length: ?(\d+)", re.IGNORECASE)


_CAPACITY = (
    b'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="4096"} 1.0\n'
    b'vllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_waiting{engine="0"} 0.0\n'
)
METRICS = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(_CAPACITY), _CAPACITY)


def _framed(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)


CHUNK = _framed(_CHUNK)
END = _framed(_USAGE) + b"0\r\n\r\n"
UNTOLD = _framed(_USAGE.replace(b',"prompt_tokens_details":{"cached_tokens":768}', b"")) + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One keep-alive connection; just enough HTTP for well-formed clients."""

    def __init__(self, end: bytes) -> None:
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        if length is not None and len(body) < int(length[1]):
            return
        self._buffer = b""
        if not head.startswith(b"POST"):
            self._transport.write(METRICS)
            return
        asked = _MAX_TOKENS.search(body)
        self._transport.write(_HEAD + CHUNK)
        self._later(int(asked[1]) - 1 if asked else 63, self._loop.time() + PACE_S)

    def _later(self, left: int, at: float) -> None:
        self._loop.call_at(at, self._step, left, at)

    def _step(self, left: int, at: float) -> None:
        if left <= 0:
            self._transport.write(self._end)
        elif not self._transport.is_closing():
            self._transport.write(CHUNK)
            self._later(left - 1, at + PACE_S)


async def main(port: int, end: bytes) -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Connection(end), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), UNTOLD if "untold" in sys.argv else END))
