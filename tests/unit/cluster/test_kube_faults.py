"""A KubeCluster before an API server that is busy, broken, slow, restarting, or does not know us any more."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import pytest
from api_front import QUICK, ApiFront, api_front, hanging_up, kube_over, refusing, saying, slow, status
from cluster_contract import config_map, following, ref
from eventually import eventually
from kubernetes.aio.config import ConfigException
from kvpool_operator.cluster import seam
from kvpool_operator.cluster.kube import KubeCluster
from kvpool_operator.cluster.seam import Expired, Forbidden, NotFound, Ref, Refused, Stale, Unavailable
from store_cluster import StoreCluster

NAMESPACE = "default"
EVERYTHING = {"namespace": NAMESPACE, "labels": {}}


@pytest.fixture
async def front() -> AsyncIterator[ApiFront]:
    async with api_front(StoreCluster()) as front:
        yield front


@pytest.fixture
async def cluster(front: ApiFront) -> AsyncIterator[KubeCluster]:
    async with kube_over(front) as cluster:
        yield cluster


async def passing(request) -> None:
    """No trouble."""


async def applied(cluster, name="a", **data):
    return await cluster.apply(config_map(name, NAMESPACE, data=data), manager="m", force=True)


# calls


@pytest.mark.parametrize(
    "trouble",
    [
        refusing(429, retry_after="0"),
        refusing(500),
        refusing(503),
        saying("<html>Bad Gateway</html>", 502),
        hanging_up,
    ],
)
async def test_a_passing_trouble_is_not_noticed(front, cluster, trouble):
    front.troubles.extend([trouble] * 3)
    made = await applied(cluster, x="1")
    assert front.asked() == ["PATCH a"] * 4
    front.troubles.append(trouble)
    assert await cluster.get(ref(made)) == made
    front.troubles.append(trouble)
    assert (await cluster.list(seam.CONFIG_MAP, **EVERYTHING)).items == (made,)
    front.troubles.append(trouble)
    await cluster.delete(ref(made), uid=made["metadata"]["uid"])


async def test_a_lasting_trouble_is_told_after_four_tries_in_the_servers_words(front, cluster):
    front.troubles.extend([refusing(503, "etcdserver: no leader")] * 4)
    with pytest.raises(Unavailable, match="etcdserver: no leader"):
        await applied(cluster)
    assert len(front.seen) == 4


async def test_what_the_server_asks_for_is_waited_for_where_it_is_short(front, cluster):
    front.troubles.append(refusing(429, retry_after="0.04"))
    begun = time.monotonic()
    await applied(cluster)
    assert time.monotonic() - begun >= 0.04


async def test_a_longer_wait_is_passed_on_at_once(front, cluster):
    front.troubles.append(refusing(429, "too many requests", retry_after="30"))
    with pytest.raises(Unavailable, match="too many requests") as told:
        await applied(cluster)
    assert told.value.retry_after_s == 30
    assert len(front.seen) == 1


async def test_a_slow_answer_is_waited_for_and_one_too_slow_is_not_asked_for_again(front):
    async with kube_over(front) as cluster:
        front.troubles.append(slow(0.3))
        await applied(cluster)
    async with kube_over(front, replace(QUICK, call_s=0.2)) as cluster:
        front.troubles.append(slow(30))
        with pytest.raises(Unavailable, match=r"PATCH /api/v1/namespaces/default/configmaps/a: no answer .* in time"):
            await applied(cluster)
    assert len(front.seen) == 2


async def test_what_is_refused_is_not_tried_again(front, cluster):
    front.troubles.append(refusing(422, "spec.x: Invalid value"))
    with pytest.raises(Refused, match=r"spec\.x: Invalid value"):
        await applied(cluster)
    assert len(front.seen) == 1


async def test_nobody_there_is_told_with_what_was_asked(front):
    front.url = "http://127.0.0.1:1"
    async with kube_over(front) as cluster:
        with pytest.raises(Unavailable, match=r"GET /api/v1/namespaces/default/pods/p: .* cannot be reached"):
            await cluster.get(Ref(seam.POD, NAMESPACE, "p"))


async def test_a_kind_that_is_none_of_ours_is_refused_without_asking(front, cluster):
    for made in ({"apiVersion": "v1", "kind": "Node"}, {"apiVersion": "apps/v2", "kind": "Deployment"}):
        with pytest.raises(Refused, match="no matches for kind"):
            await cluster.apply({**made, "metadata": {"name": "n"}}, manager="m", force=True)
    assert front.seen == []


async def test_a_delete_that_met_another_writer_may_be_repeated(front, cluster):
    made = await applied(cluster)
    front.troubles.append(refusing(409, "the object has been modified; apply your changes to the latest version"))
    with pytest.raises(Unavailable, match="has been modified"):
        await cluster.delete(ref(made), uid=made["metadata"]["uid"])


# a status of exactly this object


async def status_written(cluster, uid):
    about = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": NAMESPACE, "uid": uid}}
    return await cluster.apply({**about, "status": {"x": "1"}}, manager="s", force=True, subresource="status")


async def test_a_status_is_written_though_others_write_meanwhile(front, cluster):
    made = await applied(cluster)
    front.seen.clear()
    front.troubles.extend([passing, refusing(409, "the object has been modified", reason="Conflict")] * 2)
    written = await status_written(cluster, made["metadata"]["uid"])
    assert written["status"] == {"x": "1"}
    assert front.asked() == ["GET a", "PATCH status"] * 3


async def test_a_status_of_an_object_that_was_replaced_or_never_rests_is_not_written(front, cluster):
    made = await applied(cluster)
    front.seen.clear()
    with pytest.raises(Stale, match="no more the one with uid another"):
        await status_written(cluster, "another")
    assert front.asked() == ["GET a"]
    front.troubles.extend([passing, refusing(409, "the object has been modified", reason="Conflict")] * 5)
    with pytest.raises(Stale, match="written by too many"):
        await status_written(cluster, made["metadata"]["uid"])


# credentials


async def test_credentials_that_are_refused_are_read_anew_once(front):
    renewed = []

    async def renew() -> None:
        renewed.append(1)
        cluster.api.configuration.api_key["BearerToken"] = "Bearer second"

    async with kube_over(front, renew=renew) as cluster:
        front.troubles.append(refusing(401, "Unauthorized"))
        await applied(cluster)
        assert [each.headers["Authorization"] for each in front.seen] == ["Bearer first", "Bearer second"]
        front.troubles.extend([refusing(401, "Unauthorized")] * 2)
        with pytest.raises(Unavailable, match="does not accept our credentials: Unauthorized"):
            await applied(cluster)
    assert len(renewed) == 2


async def test_without_other_credentials_the_refusal_is_told(front, cluster):
    front.troubles.extend([refusing(401, "Unauthorized")] * 2)
    with pytest.raises(Unavailable, match="does not accept our credentials"):
        await applied(cluster)


async def test_credentials_that_are_gone_are_told(front):
    async def renew() -> None:
        raise ConfigException("Service token file does not exist.")

    async with kube_over(front, renew=renew) as cluster:
        front.troubles.append(refusing(401))
        with pytest.raises(Unavailable, match="credentials cannot be read: Service token file does not exist"):
            await applied(cluster)


# lists


async def test_a_long_list_comes_in_pages_of_one_version(front):
    async with kube_over(front, replace(QUICK, page=2)) as cluster:
        for name in "abcde":
            await applied(cluster, name)
        front.seen.clear()
        listing = await cluster.list(seam.CONFIG_MAP, **EVERYTHING)
    assert [item["metadata"]["name"] for item in listing.items] == list("abcde")
    assert listing.resource_version == "5"
    assert [each.query.get("continue") for each in front.seen] == [None, "2", "4"]


async def test_a_list_whose_version_is_forgotten_between_pages_is_read_at_once(front):
    async with kube_over(front, replace(QUICK, page=2)) as cluster:
        for name in "abc":
            await applied(cluster, name)
        front.seen.clear()
        front.troubles.extend([passing, refusing(410, "The provided continue parameter is too old", reason="Expired")])
        listing = await cluster.list(seam.CONFIG_MAP, **EVERYTHING)
    assert [item["metadata"]["name"] for item in listing.items] == list("abc")
    assert [each.query.get("limit") for each in front.seen] == ["2", "2", None]


# logs


async def test_a_log_is_asked_for_once_since_its_node_may_be_silent(front, cluster):
    pod = Ref(seam.POD, NAMESPACE, "p")
    front.troubles.append(refusing(500, "dial tcp 10.0.0.1:10250: connect: connection refused"))
    with pytest.raises(Unavailable, match="10250"):
        await cluster.ended_log(pod, container="engine", lines=10)
    async with kube_over(front, replace(QUICK, log_s=0.2)) as hasty:
        front.troubles.append(slow(30))
        with pytest.raises(Unavailable, match="in time"):
            await hasty.ended_log(pod, container="engine", lines=10)
    assert len(front.seen) == 2


async def test_a_log_holds_what_was_said_whatever_its_bytes(front, cluster):
    front.troubles.append(saying("ValueError: no\n"))
    pod = Ref(seam.POD, NAMESPACE, "p")
    assert await cluster.ended_log(pod, container="engine", lines=10) == "ValueError: no\n"
    (asked,) = front.seen
    assert dict(asked.query) == {"container": "engine", "previous": "true", "tailLines": "10"}


async def test_a_log_that_we_may_not_read_is_no_empty_log(front, cluster):
    words = 'pods "p" is forbidden: User "u" cannot get resource "pods/log" in API group "" in the namespace "default"'
    front.troubles.append(refusing(403, words))
    with pytest.raises(Forbidden, match="u may not get pods/log in namespace default"):
        await cluster.ended_log(Ref(seam.POD, NAMESPACE, "p"), container="engine", lines=10)


# watches


def watched(cluster, version="0"):
    return cluster.watch(seam.CONFIG_MAP, **EVERYTHING, resource_version=version)


def events(*told: tuple[str, dict]) -> str:
    return "".join(f'{{"type": "{kind}", "object": {found}}}\n'.replace("'", '"') for kind, found in told)


async def started(front):
    await eventually(lambda: front.watches)


async def test_a_watch_that_ends_or_is_cut_goes_on_where_it_was(front, cluster):
    told = asyncio.ensure_future(following(watched(cluster), 3))
    await started(front)
    await applied(cluster, "a")
    front.cut_watches()
    await applied(cluster, "b")
    await started(front)
    front.cut_watches()
    await applied(cluster, "c")
    assert await told == [("ADDED", "a"), ("ADDED", "b"), ("ADDED", "c")]


async def test_bookmarks_move_a_watch_that_hears_nothing(front, cluster):
    await applied(cluster)
    front.seen.clear()
    front.troubles.append(saying(events(("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "1"}}))))
    told = asyncio.ensure_future(following(cluster.watch(seam.POD, **EVERYTHING, resource_version="0"), 1))
    await started(front)
    assert [each.query["resourceVersion"] for each in front.seen] == ["0", "1"]
    assert front.seen[0].query["allowWatchBookmarks"] == "true"
    told.cancel()


async def test_a_forgotten_version_is_told_in_either_shape(front, cluster):
    gone = status(410, "too old resource version: 0 (9)", "Expired")
    for trouble in (refusing(410, gone["message"]), saying(events(("ERROR", gone)))):
        front.troubles.append(trouble)
        with pytest.raises(Expired, match="too old resource version"):
            await following(watched(cluster), 1)


@pytest.mark.parametrize(
    "trouble",
    [
        refusing(429, retry_after="0"),
        refusing(500),
        hanging_up,
        saying('{"type": "ADDED", "obj'),
        saying(""),
        saying(events(("ERROR", status(500, "etcd is away", "InternalError")))),
        saying(events(("ERROR", {"kind": "Status"}))),
    ],
)
async def test_a_watch_outlives_a_passing_trouble(front, cluster, trouble):
    front.troubles.extend([trouble] * 3)
    told = asyncio.ensure_future(following(watched(cluster), 1))
    await started(front)
    await applied(cluster)
    assert await told == [("ADDED", "a")]


async def test_a_watch_that_cannot_be_had_is_told_after_four_tries(front, cluster):
    front.troubles.extend([refusing(503, "starting up")] * 4)
    with pytest.raises(Unavailable, match="starting up"):
        await following(watched(cluster), 1)
    assert len(front.seen) == 4


async def test_a_watch_that_a_stranger_ends_at_once_is_not_asked_for_without_pause(front, cluster):
    front.troubles.extend([saying("")] * 20)
    told = asyncio.ensure_future(following(watched(cluster), 1))
    await started(front)
    assert len(front.seen) == 21
    told.cancel()


async def test_a_silent_watch_is_taken_for_dead(front):
    front.troubles.append(slow(60))
    async with kube_over(front, replace(QUICK, watch_slack_s=-0.5)) as cluster:
        told = asyncio.ensure_future(following(watched(cluster), 1))
        await started(front)
        await applied(cluster)
        assert await told == [("ADDED", "a")]


async def test_a_watch_that_is_left_leaves_its_connection(front, cluster):
    async with aclosing(watched(cluster)) as changes:
        await applied(cluster)
        await anext(changes)
    await eventually(lambda: not front.watches)


async def test_a_watch_of_what_is_not_served_is_told(front, cluster):
    front.troubles.append(saying("404 page not found", 404))
    with pytest.raises(NotFound, match="is the CustomResourceDefinition installed"):
        await following(watched(cluster), 1)
