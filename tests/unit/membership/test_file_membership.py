import asyncio
from contextlib import aclosing
from pathlib import Path

import pytest
from engine_pods import engine_pod, write_pods
from eventually import eventually
from kvpool_router.membership.file_impl import FileMembership
from kvpool_router.membership.pods import members_of
from kvpool_router.workers import Roster, Worker


class Followed:
    """What has been told of a file so far."""

    def __init__(self, path: Path) -> None:
        self.membership = FileMembership(path, poll_s=0.01)
        self.snapshots: list[tuple[Worker, ...]] = []

    @property
    def pods(self) -> list[str]:
        return [worker.id.pod for worker in self.snapshots[-1]] if self.snapshots else []

    async def run(self) -> None:
        async with aclosing(self.membership.snapshots()) as snapshots:
            async for snapshot in snapshots:
                self.snapshots.append(snapshot.workers)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "pods.json"


@pytest.fixture
async def followed(path):
    followed = Followed(path)
    task = asyncio.create_task(followed.run())
    yield followed
    task.cancel()
    await asyncio.wait([task])


async def test_the_first_snapshot_comes_at_once_and_another_with_each_change(path, followed):
    write_pods(path, engine_pod("a"))
    await eventually(lambda: followed.pods == ["a"])
    write_pods(path, engine_pod("a"), engine_pod("b"))
    await eventually(lambda: followed.pods == ["a", "b"])
    assert followed.membership.trouble is None


async def test_a_pool_without_pods_is_a_snapshot_too(path, followed):
    write_pods(path)
    await eventually(lambda: followed.snapshots == [()])


async def test_a_rewrite_that_changes_no_worker_tells_nothing(path, followed):
    write_pods(path, engine_pod("a"))
    await eventually(lambda: followed.pods)
    write_pods(path, engine_pod("a") | {"spec": engine_pod("a")["spec"], "extra": 1})
    write_pods(path, engine_pod("a"), engine_pod("b", ip=None))
    write_pods(path, engine_pod("c"))
    await eventually(lambda: followed.pods == ["c"])
    assert [[worker.id.pod for worker in snapshot] for snapshot in followed.snapshots] == [["a"], ["c"]]


@pytest.mark.parametrize("content", [None, '{"items": [', "[]", '{"kind": "PodList"}', b"\xff"])
async def test_a_torn_missing_or_foreign_file_keeps_the_last_set_and_says_so(path, followed, content, caplog):
    write_pods(path, engine_pod("a"))
    await eventually(lambda: followed.pods)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    await eventually(lambda: followed.membership.trouble)
    assert "keeping the last known workers" in followed.membership.trouble
    assert caplog.text.count("keeping the last known workers") == 1
    assert followed.pods == ["a"]
    write_pods(path, engine_pod("b"))
    await eventually(lambda: followed.pods == ["b"])
    assert followed.membership.trouble is None


async def test_a_pod_that_is_left_out_is_named(path, followed):
    write_pods(path, engine_pod("a"), engine_pod("b", annotations={"kvpool.dev/data-parallel-size": "x"}))
    await eventually(lambda: followed.pods == ["a"])
    assert "pod b" in followed.membership.trouble


def test_a_roster_offers_only_workers_that_accept_requests():
    roster = Roster()
    assert not roster.known
    told = members_of([engine_pod("a"), engine_pod("b", ready=False), engine_pod("c", deleted=True)]).workers
    roster.replace(told)
    assert roster.known
    assert [worker.id.pod for worker in roster.workers] == ["a", "b", "c"]
    assert [str(worker.id) for worker in roster.accepting()] == ["a/0"]
