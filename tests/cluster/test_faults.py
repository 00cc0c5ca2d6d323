"""What goes wrong between operator and API server, what people do by hand, and two operators at once.

On etcd, API server and controller manager; kubelets and routers are played.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from api_front import Trouble, hanging_up, refusing, slow
from api_proxy import ApiProxy, api_proxy
from control_planes import new_namespace, pool_plane, written_since
from eventually import eventually
from kvnode.control_plane import Running
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster, connect
from kvpool_operator.cluster.seam import Kind, Manifest, Ref
from kvpool_operator.manifests import name_of, uid_of
from operator_process import OperatorProcess, operator_beside
from played_routers import played
from played_world import PlayedWorld, played_node

MINUTE_S = 60.0
pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Minute:
    """What is watched while it should be quiet, and since when."""

    worlds: Sequence[PlayedWorld]
    operators: Sequence[OperatorProcess]
    plane: Running
    story: str
    first_line: int

    def __post_init__(self) -> None:
        self._line, self._cpu_s, self._begun = lines(self.plane), self._used_s(), time.monotonic()

    def before(self) -> list[str]:
        return writes(self.plane, self.first_line, *self._namespaces())[: -len(self.since()) or None]

    def since(self) -> list[str]:
        return writes(self.plane, self._line, *self._namespaces())

    async def is_over(self) -> float:
        """The share of a core that the operators have taken meanwhile."""
        await asyncio.sleep(max(0.0, self._begun + MINUTE_S - time.monotonic()))  # how long it lasts is the point
        share = (self._used_s() - self._cpu_s) / (time.monotonic() - self._begun)
        print(f"{self.story}: {len(self.before())} writes, then {len(self.since())}; {share:.2%} of a core")  # noqa: T201
        return share

    def _namespaces(self) -> list[str]:
        return [world.namespace for world in self.worlds]

    def _used_s(self) -> float:
        return sum(map(cpu_of, self.operators))


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with pool_plane(tmp_path_factory.mktemp("plane") / "state") as running, played_node(running):
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(plane: Running) -> AsyncIterator[KubeCluster]:
    async with connect(plane.kubeconfig) as connected:
        yield connected


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def twenty_at_rest(
    plane: Running, cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Minute]:
    """Twenty pools that have come to rest, looked after by an operator of their own while other tests run."""
    worlds = [
        PlayedWorld(cluster, new_namespace(plane), router_address=f"127.77.5.{number + 1}") for number in range(20)
    ]
    names, line = [world.namespace for world in worlds], lines(plane)
    async with (
        operator_beside(plane.kubeconfig, tmp_path_factory.mktemp("rest"), *names) as operator,
        played(*worlds, step_s=1.0) as life,
    ):
        await asyncio.gather(*(world.user_applies(replicas=1) for world in worlds))
        for world in worlds:
            await eventually(lambda world=world: is_done(world, 1), within_s=90)
        await asyncio.sleep(3)  # what is on its way
        life.hold_still()
        yield Minute(worlds, [operator], plane, "twenty pools at rest", line)


@pytest_asyncio.fixture(scope="module", loop_scope="module", autouse=True)
async def two_operators(
    plane: Running, cluster: KubeCluster, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Minute]:
    """Two operators have led one pool through its changes, and live on while other tests run."""
    world = PlayedWorld(cluster, new_namespace(plane), most_engines=4, router_address="127.77.4.1")
    folders, line = [tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("other")], lines(plane)
    async with (
        operator_beside(plane.kubeconfig, folders[0], world.namespace) as one,
        operator_beside(plane.kubeconfig, folders[1], world.namespace) as other,
        played(world, step_s=0.2) as life,
    ):
        for replicas in (2, 3, 1, 3):
            await follows(world, replicas)
        await world.user_applies(replicas=3, engine={"args": ["--max-model-len=8192"]})
        await eventually(lambda: is_done(world, 3), within_s=40)
        await asyncio.sleep(2)  # what is on its way
        life.hold_still()
        yield Minute([world], [one, other], plane, "two operators", line)


async def is_done(world: PlayedWorld, replicas: int) -> bool:
    """The status says so of what the user has asked for, and no Pod is left over."""
    return await world.is_as_asked() and len(await world.pods()) == replicas


async def stand(world: PlayedWorld, replicas: int) -> bool:
    return len(await world.standing()) == replicas


async def follows(world: PlayedWorld, replicas: int, within_s: float = 30) -> float:
    await world.user_applies(replicas=replicas)
    return await eventually(lambda: is_done(world, replicas), within_s=within_s)


def several(trouble: Trouble, times: int) -> Callable[[ApiProxy], Awaitable[None]]:
    async def begin(proxy: ApiProxy) -> None:
        proxy.troubles.extend([trouble] * times)

    return begin


async def cut(proxy: ApiProxy) -> None:
    assert proxy.cut_watches() > 5


async def forgets(proxy: ApiProxy) -> None:
    """Every watch is cut, and for two seconds whoever comes back is told that the past is forgotten."""
    proxy.expired = True
    assert proxy.cut_watches() > 5
    asyncio.get_running_loop().call_later(2, setattr, proxy, "expired", False)


async def is_slow(proxy: ApiProxy) -> None:
    proxy.always = slow(2.0)


TROUBLES: dict[str, Callable[[ApiProxy], Awaitable[None]]] = {
    "each answer 2 s late": is_slow,
    "busy (429), asking for a second": several(refusing(429, retry_after="1"), 6),
    "broken (500)": several(refusing(500), 12),
    "hanging up": several(hanging_up, 8),
    "watches cut": cut,
    "watches told 410": forgets,
}


@pytest.mark.timeout(240)
async def test_an_api_server_in_trouble_is_outlasted(plane: Running, cluster: KubeCluster, tmp_path: Path):
    world = PlayedWorld(cluster, new_namespace(plane), most_engines=4, router_address="127.77.2.1")
    async with (
        api_proxy(plane.kubeconfig, tmp_path) as (proxy, kubeconfig),
        operator_beside(kubeconfig, tmp_path, world.namespace) as operator,
        played(world),
    ):
        await follows(world, 1)
        for turn, (name, begin) in enumerate(TROUBLES.items()):
            replicas, begun = 2 - turn % 2, time.monotonic()
            await begin(proxy)
            await world.user_applies(replicas=replicas)
            await eventually(lambda replicas=replicas: stand(world, replicas), within_s=60)
            proxy.always = None
            await eventually(lambda replicas=replicas: is_done(world, replicas), within_s=60)
            print(f"{name}: {time.monotonic() - begun:.1f} s")  # noqa: T201
            assert not operator.ended()
            assert operator.health() == 200


def edit(kind: Kind, name: str, field: str, **body: object) -> tuple[Kind, str, str, dict]:
    return kind, name, field, body


EDITS = (
    edit(seam.SERVICE, "qwen", "spec.selector", spec={"selector": {"kvpool.dev/pool": "other"}}),
    edit(
        seam.DEPLOYMENT,
        "qwen-router",
        "spec.template.spec.containers",
        spec={"template": {"spec": {"containers": [{"name": "router", "image": "of-somebody:else"}]}}},
    ),
    edit(seam.DISRUPTION_BUDGET, "qwen", "spec.maxUnavailable", spec={"maxUnavailable": 9}),
)


async def test_what_is_changed_or_deleted_by_hand_is_mended_with_an_event(
    plane: Running, cluster: KubeCluster, tmp_path: Path
):
    world = PlayedWorld(cluster, new_namespace(plane), router_address="127.77.3.1")
    async with operator_beside(plane.kubeconfig, tmp_path, world.namespace), played(world):
        await follows(world, 2)
        for kind, name, field, body in EDITS:
            ref = Ref(kind, world.namespace, name)
            before = await cluster.get(ref)
            head = {"apiVersion": kind.api_version, "kind": kind.kind}
            meta = {"name": name, "namespace": world.namespace}
            await cluster.apply({**head, "metadata": meta, **body}, manager="by-hand", force=True)

            async def is_mended(ref: Ref = ref, before: Manifest = before) -> bool:
                found = await cluster.get(ref)
                return found["spec"] == before["spec"]

            await eventually(is_mended)
            words = f"{kind.kind} {name} differed in {field}"
            await eventually(lambda words=words: was_told(world, words))
        policy = await cluster.get(Ref(seam.NETWORK_POLICY, world.namespace, "qwen"))
        await cluster.delete(Ref(seam.NETWORK_POLICY, world.namespace, "qwen"), uid=uid_of(policy))
        await eventually(lambda: was_told(world, "NetworkPolicy qwen was missing"))
        engine = (await world.pods())[0]
        await cluster.delete(Ref(seam.POD, world.namespace, name_of(engine)), uid=uid_of(engine))
        await eventually(lambda: was_told(world, "1 of 2 exist"))
        await eventually(lambda: is_done(world, 2), within_s=30)
        assert uid_of(engine) not in [uid_of(pod) for pod in await world.pods()]


async def was_told(world: PlayedWorld, words: str) -> bool:
    told = (await world.cluster.list(seam.EVENT, namespace=world.namespace, labels={})).items
    return any(words in str(event.get("message")) for event in told)


def writes(plane: Running, line: int, *namespaces: str) -> list[str]:
    """Of operators, after that line of the audit log."""
    told = (entry for entry in written_since(plane, line) if entry.get("objectRef", {}).get("namespace") in namespaces)
    return [f"{entry['verb']} {entry['requestURI']}" for entry in told if by_an_operator(entry)]


def by_an_operator(entry: dict) -> bool:
    """Not a controller, and not what this test plays."""
    return "fieldManager=kvpool-operator" in entry["requestURI"]


def lines(plane: Running) -> int:
    return len(plane.audit_log.read_text().splitlines())


def cpu_of(operator: OperatorProcess) -> float:
    assert operator.process is not None
    user, system = Path(f"/proc/{operator.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / 100


async def test_an_engine_on_a_lost_node_is_replaced_once_its_tolerance_has_run_out(
    plane: Running, cluster: KubeCluster, tmp_path: Path
):
    """The node falls silent; the controller manager taints it and evicts; nobody is there to end the Pod."""
    world = PlayedWorld(cluster, new_namespace(plane), router_address="127.77.6.1")
    patience = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2}
    impatient = [{"key": f"node.kubernetes.io/{taint}", **patience} for taint in ("unreachable", "not-ready")]
    lost = "lost-node"
    with played_node(plane, lost) as heart:
        async with operator_beside(plane.kubeconfig, tmp_path, world.namespace), played(world) as life:
            template = {"spec": {"nodeName": lost, "tolerations": impatient}}
            await world.user_applies(replicas=1, podTemplate=template)
            await eventually(lambda: is_done(world, 1), within_s=30)
            life.hold_still()
            (before,) = await world.pods()
            heart.stops()

            async def is_replaced() -> bool:
                return any(uid_of(pod) != uid_of(before) for pod in await world.standing())

            seconds = await eventually(is_replaced, within_s=60)
            print(f"replaced {seconds:.0f} s after its node was lost")  # noqa: T201
            assert uid_of(before) in [uid_of(pod) for pod in await world.pods()], "nobody has ended it"


async def test_two_operators_alive_for_a_minute_have_done_no_harm(two_operators: Minute):
    """Both write what is the same; a plan made from what the other has changed meanwhile comes to nothing."""
    await two_operators.is_over()
    assert two_operators.since() == []
    assert len(two_operators.before()) < 400
    (world,) = two_operators.worlds
    slots = {name_of(pod).rpartition("-")[2] for pod in await world.pods()}
    assert len(slots) == len(await world.pods()) == 3


async def test_twenty_pools_at_rest_have_caused_no_write_for_a_minute_and_cost_next_to_nothing(twenty_at_rest: Minute):
    share = await twenty_at_rest.is_over()
    assert twenty_at_rest.since() == []
    assert share < 0.05, "the figure that counts is told above; a loaded machine may show more"
