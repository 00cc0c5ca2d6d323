"""The operator killed after its n-th write, for every n of a create, a rollout and a scale-in.

On etcd, API server and controller manager; kubelets and routers are played. All n are tried on the operator's core in
this process, whose cluster goes dead after the n-th write (`MortalCluster`); a seeded few on a process, by SIGKILL.
"""

import asyncio
import os
import random
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from api_proxy import api_proxy
from control_planes import new_namespace, pool_plane
from eventually import eventually
from kvnode.control_plane import Running
from kvpool_operator.build.names import template_hash
from kvpool_operator.cluster.kube import KubeCluster
from kvpool_operator.loop import Deps, reconcile
from kvpool_operator.manifests import name_of
from kvpool_operator.observe import pool_of
from kvpool_operator.settings import Settings
from mortal_cluster import Killed, MortalCluster
from operator_process import OperatorProcess
from played_routers import played
from played_world import PlayedWorld, played_node

AT_ONCE = 3
ROUNDS = 60


@dataclass(frozen=True)
class Story:
    """What a user does, and what must hold while the operator follows."""

    name: str
    before: int
    """Engines at rest before it; 0: there is no pool yet."""
    asks: Callable[[int], dict]
    """The spec, another one for each turn."""
    most_engines: int
    fewest_available: int


def rolls(turn: int) -> dict:
    """Both engines at once: as many writes as one after the other, in fewer rounds."""
    changed = {"args": [f"--max-model-len={8192 + turn}"]}
    return {"replicas": 2, "engine": changed, "rollout": {"maxSurge": 2, "maxUnavailable": 0}}


STORIES = (
    Story("create", 0, lambda turn: {"replicas": 2}, most_engines=2, fewest_available=0),
    Story("rollout", 2, rolls, most_engines=4, fewest_available=2),
    Story("scale-in", 3, lambda turn: {"replicas": 1}, most_engines=3, fewest_available=1),
)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pool_plane(tmp_path_factory.mktemp("plane") / "state") as running, played_node(running):
        yield running


async def operate(world: PlayedWorld, mortal: MortalCluster) -> None:
    """A fresh operator's rounds until it writes nothing more and all Pods are at rest. Raises Killed."""
    deps = Deps(mortal, world)
    for _ in range(ROUNDS):
        before = len(mortal.writes)
        try:
            await reconcile(deps, world.ref)
        finally:
            is_calm = await world.step()
        if is_calm and len(mortal.writes) == before:
            return
    raise AssertionError(f"not at rest after {ROUNDS} rounds: {mortal.writes}")


class Lane:
    """Turns of one story, one after the other: in one world, or each in a new one where it begins with nothing."""

    def __init__(self, cluster: KubeCluster, plane: Running, story: Story) -> None:
        self._cluster, self._plane, self._story = cluster, plane, story
        self._world: PlayedWorld | None = None
        self._asked = -1

    async def begun(self, turn: int) -> PlayedWorld:
        """The world as it is when the user has just asked, at rest before that."""
        if self._world is None or not self._story.before:
            self._world = PlayedWorld(self._cluster, await asyncio.to_thread(new_namespace, self._plane))
        world, story = self._world, self._story
        if story.before:
            await self._comes_to_rest(world, turn)
        world.most_engines, world.fewest_available = story.most_engines, story.fewest_available
        await world.user_applies(**story.asks(turn))
        return world

    async def _comes_to_rest(self, world: PlayedWorld, turn: int) -> None:
        world.most_engines, world.fewest_available = self._story.before + 2, 0
        spec = {**self._story.asks(self._asked), "replicas": self._story.before}
        self._asked = turn
        await world.user_applies(**spec)
        await operate(world, MortalCluster(self._cluster))
        world.in_flight.update({name_of(pod): 1 for pod in await world.pods()})


@dataclass(frozen=True)
class Outcome:
    objects: frozenset[tuple[str, str]]
    conditions: dict


async def outcome(world: PlayedWorld) -> tuple[Outcome, Mapping[tuple[str, str], str]]:
    """Also as it is, with uids. Engines by what they should be made from now: their hash differs from turn to turn."""
    current = template_hash(pool_of(await world.pool()), Settings().builder_revision)
    objects = await world.objects()
    names = ((kind, name.replace(current, "current")) for kind, name in objects)
    return Outcome(frozenset(names), await world.conditions()), objects


async def killed_and_followed(cluster: KubeCluster, world: PlayedWorld, n: int) -> Outcome:
    """What stands after an operator was killed and a fresh one has finished its work."""
    mortal = MortalCluster(cluster, dies_after=n)
    with pytest.raises(Killed):
        await operate(world, mortal)
    at_death = await world.objects()
    await operate(world, MortalCluster(cluster))
    found, at_rest = await outcome(world)
    for key in at_death.keys() & at_rest.keys():
        assert at_death[key] == at_rest[key], f"{key} was made anew"
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
async def test_killed_after_any_write_the_next_operator_ends_as_if_nothing_had_been(
    plane: Running, cluster: KubeCluster, story: Story
):
    first = await Lane(cluster, plane, story).begun(0)
    undisturbed = MortalCluster(cluster)
    await operate(first, undisturbed)
    expected, _ = await outcome(first)
    assert expected.conditions["Ready"] == "True"
    every = range(1, len(undisturbed.writes) + 1)
    print(f"{story.name}: {len(every)} writes")  # noqa: T201

    async def fates(ns: Sequence[int]) -> None:
        lane = Lane(cluster, plane, story)
        for n in ns:
            found = await killed_and_followed(cluster, await lane.begun(n), n)
            assert found == expected, f"killed after write {n} ({undisturbed.writes[n - 1]})"

    async with asyncio.TaskGroup() as tasks:
        for lane in range(AT_ONCE):
            tasks.create_task(fates(every[lane::AT_ONCE]))


SEED = 5
ASKED = (
    ("create", {"replicas": 2}, 25),
    ("rollout", rolls(1), 25),
    ("scale-out", {**rolls(1), "replicas": 4}, 9),
    ("scale-in", {**rolls(1), "replicas": 1}, 19),
    ("rollout", {**rolls(2), "replicas": 1}, 13),
)
"""What is asked, one after the other, and about how many writes that takes."""


@pytest.mark.timeout(180)
async def test_a_process_killed_by_sigkill_is_followed_by_one_that_ends_its_work(
    plane: Running, cluster: KubeCluster, tmp_path: Path
):
    chance = random.Random(SEED)
    world = PlayedWorld(cluster, new_namespace(plane), router_address="127.77.1.1")
    async with api_proxy(plane.kubeconfig, tmp_path) as (proxy, kubeconfig), played(world):
        operator = OperatorProcess(kubeconfig, tmp_path / "operator.log", (world.namespace,))
        await asyncio.to_thread(operator.start)
        for story, spec, writes in ASKED:
            n = chance.randint(1, writes - 2)
            world.most_engines = max(len(await world.pods()), spec["replicas"] + 2)
            proxy.written = killing(operator, len(proxy.writes) + n)
            await world.user_applies(**spec)
            await eventually(operator.ended, within_s=30)
            print(f"{story}: killed after write {n}, {proxy.writes[-1]}")  # noqa: T201
            at_death = await world.objects()
            await asyncio.to_thread(operator.start)
            await eventually(lambda spec=spec: is_done(world, spec["replicas"]), within_s=30)
            at_rest = await world.objects()
            assert {name for name in at_rest if name[0] != "Pod"} == {*CHILDREN, ("InferencePool", "qwen")}
            assert len([name for name in at_rest if name[0] == "Pod"]) == spec["replicas"] + 1
            assert all(at_death[key] == at_rest[key] for key in at_death.keys() & at_rest.keys())
        operator.stop()


def killing(operator: OperatorProcess, after: int) -> Callable[[int], None]:
    """Ends the process that runs now, when there have been so many writes."""
    assert operator.process is not None
    pid = operator.process.pid

    def written(count: int) -> None:
        if count == after:
            os.kill(pid, signal.SIGKILL)

    return written


CHILDREN = {
    ("Secret", "qwen-admin"),
    ("ServiceAccount", "qwen-router"),
    ("Role", "qwen-router"),
    ("RoleBinding", "qwen-router"),
    ("ConfigMap", "qwen-router"),
    ("Service", "qwen"),
    ("NetworkPolicy", "qwen"),
    ("NetworkPolicy", "qwen-router"),
    ("PodDisruptionBudget", "qwen"),
    ("PodDisruptionBudget", "qwen-router"),
    ("Deployment", "qwen-router"),
}


async def is_done(world: PlayedWorld, replicas: int) -> bool:
    """The status says so of what the user has asked for, and no Pod is left over."""
    return await world.is_as_asked() and len(await world.pods()) == replicas
