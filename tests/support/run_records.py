"""A record of a pool that runs here, for tests that need one without a pool."""

import os

from kvpool_cli.runs import RunRecord, process_start


def record(pool="qwen", pid=None):
    pid = os.getpid() if pid is None else pid
    return RunRecord(
        pool=pool,
        namespace="default",
        manifest="pool.yaml",
        engine="sim",
        pid=pid,
        pid_started=process_start(pid) or "",
        url="http://127.0.0.1:8000",
        admin_url="http://127.0.0.1:8001",
        model="m",
        block_tokens=16,
    )
