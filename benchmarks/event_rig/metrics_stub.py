"""The `/metrics` of many engines, as long as vLLM's own: `python -m benchmarks.event_rig.metrics_stub PORT COUNT`.

Engine number n answers at 127.0.1.n.
"""

import asyncio
import sys
from typing import cast

import uvloop

LENGTH_BYTES = 60_000


def exposition() -> bytes:
    lines = [
        'vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="2048"} 1.0',
        'vllm:num_requests_running{engine="0",model_name="stub"} 0.0',
        'vllm:num_requests_waiting{engine="0",model_name="stub"} 0.0',
        'vllm:kv_cache_usage_perc{engine="0",model_name="stub"} 0.5',
        'vllm:prefix_cache_queries_total{engine="0",model_name="stub"} 1000.0',
        'vllm:prefix_cache_hits_total{engine="0",model_name="stub"} 500.0',
    ]
    filler = 'vllm:time_to_first_token_seconds_bucket{engine="0",le="0.001",model_name="stub"} 0.0'
    lines += [filler] * ((LENGTH_BYTES - sum(map(len, lines))) // (len(filler) + 1))
    body = "\n".join(lines).encode() + b"\n"
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


class Connection(asyncio.Protocol):
    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self._transport.write(self._answer)


async def main(port: int, count: int) -> None:
    loop, answer = asyncio.get_running_loop(), exposition()
    for number in range(1, count + 1):
        await loop.create_server(lambda: Connection(answer), f"127.0.1.{number}", port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
