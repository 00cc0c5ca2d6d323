"""One pool of two real engines for all files: it starts in about a minute on two cores."""

import os

import pytest_asyncio
from real_engines import real_pool


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def pool(tmp_path_factory):
    python = os.environ.get("KVPOOL_VLLM_PYTHON")
    assert python, "KVPOOL_VLLM_PYTHON is not set: run `make test RING=vllm`"
    async with real_pool(tmp_path_factory.mktemp("cpu-vllm"), python) as found:
        yield found
