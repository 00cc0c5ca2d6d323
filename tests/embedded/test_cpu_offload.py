"""GPUs that hold little, Pods whose memory holds much: what the one has lost is served from the other."""

import pytest
from eventually import eventually
from kvpool_api.wire import EventState
from up_process import ids, manifest, ready, write

BLOCK, PROMPT_TOKENS = 16, 1_610
WHOLE = PROMPT_TOKENS // BLOCK * BLOCK
SPEC = {
    "engine": {"cpuOffload": {"size": "8Gi"}, "args": ["--num-gpu-blocks-override", "130"]},
    "resources": {"limits": {"memory": "16Gi"}},
}


@pytest.fixture
async def pool(tmp_path):
    file = write(tmp_path / "pool.yaml", manifest(replicas=2, **SPEC))
    async with ready(file, "--no-live") as found:
        yield found


async def newest(pool):
    return (await pool.decisions()).decisions[0]


async def test_what_the_gpu_has_lost_is_served_from_main_memory_of_the_pod_that_has_it(pool):
    homes = {}
    for seed in range(6):
        await pool.complete(ids(seed, PROMPT_TOKENS))
        homes[seed] = (await newest(pool)).pod
    assert len(set(homes.values())) == 2

    async def is_known():
        """One GPU holds one of these prompts at a time; the others lie below."""
        await pool.complete(ids(0, PROMPT_TOKENS))
        decision = await newest(pool)
        return decision.predicted_cached_tokens == WHOLE

    await eventually(is_known, within_s=10)
    loaded = 0
    for seed in range(6):
        await pool.complete(ids(seed, PROMPT_TOKENS))
        decision = await newest(pool)
        assert decision.pod == homes[seed]
        assert decision.cached_tokens == decision.predicted_cached_tokens == WHOLE
        chosen = next(each for each in decision.candidates if each.pod == decision.pod)
        on_gpu = chosen.cached_tokens == WHOLE
        assert (chosen.parts_s["load"] == 0.0) == on_gpu
        loaded += not on_gpu
    assert loaded >= 3
    workers = (await pool.state()).workers
    assert {each.events for each in workers} == {EventState.EXACT}
    assert {each.audit.true_percent for each in workers} <= {None, 100}
