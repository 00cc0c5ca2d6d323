"""An engine whose events are not true is found by its answers, loses its credit, and gets it back once it is honest."""

import asyncio

import pytest
import pytest_asyncio
from eventually import eventually
from kvpool_api.wire import EventState, MapTrust
from up_process import ids, manifest, ready, write

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROMPT_TOKENS = 400


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory):
    file = write(tmp_path_factory.mktemp("liar") / "pool.yaml", manifest(replicas=2))
    async with ready(file, "--no-live") as found:
        yield found


async def worker(pool, pod):
    return next(each for each in (await pool.state()).workers if each.pod == pod)


async def fault(pool, url, **how):
    async with pool.http.post(f"{url}/sim/fault", json=how) as answer:
        assert answer.status == 200, await answer.text()


class Talk:
    """Prompts that are asked twice, one after the other, until something has come of it."""

    def __init__(self, pool, seed):
        self.pool, self.seed = pool, seed

    async def more(self):
        seeds = [self.seed + number for number in range(6)]
        self.seed += len(seeds)
        for _ in range(2):
            await asyncio.gather(*(self.pool.complete(ids(seed, PROMPT_TOKENS)) for seed in seeds))

    async def until(self, holds, within_s):
        async def held():
            await self.more()
            return await holds()

        await eventually(held, within_s=within_s)


async def test_a_liar_is_found_by_its_answers_loses_its_credit_and_gets_it_back_when_it_is_honest(pool):
    liar, honest = (await pool.state()).workers
    talk = Talk(pool, 10_000)
    await fault(pool, liar.url, kind="wrong-tokens")

    async def trust(pod):
        return (await worker(pool, pod)).audit.trust

    async def is_found():
        return await trust(liar.pod) is MapTrust.DISTRUSTED

    await talk.until(is_found, within_s=40)
    found = await worker(pool, liar.pod)
    assert found.events is EventState.DEGRADED
    assert "not believed" in found.events_reason
    await talk.more()
    newest = (await pool.decisions()).decisions[0]
    if await is_found():
        assert [c.predicted_tokens for c in newest.candidates if c.pod == liar.pod] == [0]
    await fault(pool, liar.url, kind="wrong-tokens", on=False)

    async def is_reset():
        async with pool.http.post(f"{liar.url}/reset_prefix_cache") as answer:
            return answer.status == 200

    await eventually(is_reset, within_s=10)

    async def is_trusted():
        return await trust(liar.pod) is MapTrust.TRUSTED

    await talk.until(is_trusted, within_s=90)
    assert (await worker(pool, liar.pod)).events is EventState.EXACT
    assert await trust(honest.pod) is MapTrust.TRUSTED
    assert (await worker(pool, honest.pod)).audit.true_percent == 100
