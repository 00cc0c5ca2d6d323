import asyncio
import json
from contextlib import aclosing
from itertools import pairwise

import msgspec
import pytest
from engine_pods import engine_pod
from eventually import eventually
from fake_pods_api import answering, fake_pods_api, hanging, saying
from hypothesis import given
from hypothesis import strategies as st
from kvpool_api.labels import member_selector
from kvpool_router.membership.kube_impl import BackOff, KnownPods, KubeMembership
from kvpool_router.membership.pods_api import ApiServer, Patience, PodList, PodsApi, WatchEvent
from kvpool_router.workers import Worker

QUICK = BackOff(first_s=0.01, most_s=0.05)
SHORT = Patience(list_s=0.5, watch_s=30, grace_s=0.2)


class Followed:
    """What has been told of the pool so far."""

    def __init__(self, server: ApiServer, patience: Patience = SHORT) -> None:
        self.membership = KubeMembership(PodsApi(server, "ns", member_selector("qwen"), patience), QUICK)
        self.snapshots: list[tuple[Worker, ...]] = []

    @property
    def pods(self) -> list[str]:
        return [worker.id.pod for worker in self.snapshots[-1]] if self.snapshots else []

    async def run(self) -> None:
        async with aclosing(self.membership.snapshots()) as snapshots:
            async for snapshot in snapshots:
                self.snapshots.append(snapshot.workers)


@pytest.fixture
async def server(tmp_path):
    async with fake_pods_api(tmp_path) as (api, server):
        yield api, server


@pytest.fixture
def api(server):
    return server[0]


@pytest.fixture
async def follow(server):
    tasks = []

    def follow(patience: Patience = SHORT) -> Followed:
        followed = Followed(server[1], patience)
        tasks.append(asyncio.create_task(followed.run()))
        return followed

    yield follow
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def followed(api, follow):
    """Pod `a` is known, and a watch is open."""
    api.keep(engine_pod("a"))
    followed = follow()
    await eventually(lambda: followed.pods == ["a"] and api.watches)
    return followed


async def test_it_lists_the_pools_pods_and_watches_from_that_version_with_the_service_accounts_token(api, followed):
    listing, watch = api.seen
    assert listing.match_info["namespace"] == "ns"
    assert dict(listing.query) == {"labelSelector": "kvpool.dev/pool=qwen,kvpool.dev/role in (engine,router)"}
    assert listing.headers["Authorization"] == "Bearer first"
    assert (watch.query["resourceVersion"], watch.query["allowWatchBookmarks"]) == ("101", "true")
    assert watch.query["labelSelector"] == listing.query["labelSelector"]
    assert followed.membership.trouble is None


async def test_pods_that_come_change_and_go_are_told_at_once(api, followed):
    await api.put(engine_pod("b"))
    await eventually(lambda: followed.pods == ["a", "b"])
    await api.put(engine_pod("b", annotations={"kvpool.dev/draining": "2026-01-01T00:00:00Z"}))
    await eventually(lambda: followed.snapshots[-1][1].draining)
    await api.delete("a")
    await eventually(lambda: followed.pods == ["b"])
    assert api.lists == 1


async def test_what_changes_no_worker_tells_nothing(api, followed):
    await api.put(engine_pod("a") | {"extra": 1})
    await api.bookmark("400")
    await api.tell("A LATER RELEASE'S", api.pods["a"])
    await api.put(engine_pod("b"))
    await eventually(lambda: followed.pods == ["a", "b"])
    assert len(followed.snapshots) == 2


async def test_a_watch_that_ends_as_it_should_goes_on_from_the_last_version_told(api, follow):
    api.keep(engine_pod("a"))
    followed = follow(Patience(list_s=1, watch_s=1, grace_s=5))
    await eventually(lambda: api.watches)
    await api.bookmark("777")
    await eventually(lambda: len(api.seen) == 3)
    assert [request.query.get("resourceVersion") for request in api.seen] == [None, "101", "777"]
    assert followed.membership.trouble is None


async def test_an_event_is_read_however_it_arrives_in_pieces(api, followed):
    event = json.dumps({"type": "ADDED", "object": api.keep(engine_pod("b"))}).encode() + b"\n"
    for at in range(0, len(event), 100):
        await api.say(event[at : at + 100])
        await asyncio.sleep(0)
    await eventually(lambda: followed.pods == ["a", "b"])


async def test_what_vanished_while_the_watch_was_cut_is_gone_after_the_new_list(api, followed, caplog):
    api.keep(engine_pod("b"))
    del api.pods["a"]
    api.cut()
    await eventually(lambda: followed.pods == ["b"])
    assert "keeping the last known workers" in caplog.text
    await eventually(lambda: followed.membership.trouble is None)


@pytest.mark.parametrize("how", ["event", "status"])
async def test_a_version_that_has_expired_is_no_trouble_all_is_listed_anew(api, followed, how, caplog):
    api.keep(engine_pod("b"))
    if how == "status":
        api.faults.append(api.listing)
        api.faults.append(answering(410, "too old resource version: 1 (2)"))
        api.cut()
    else:
        await api.tell("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version: 1 (2)"})
    await eventually(lambda: followed.pods == ["a", "b"] and api.watches)
    assert api.lists == (3 if how == "status" else 2)
    assert "too old" not in caplog.text
    assert followed.membership.trouble is None


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (answering(500, "etcd is away"), "answered 500: etcd is away"),
        (saying(b"bad gateway \xff", 502), "answered 502: bad gateway"),
        (answering(401, "Unauthorized"), "does not accept the service account's token"),
        (answering(403, 'pods is forbidden: User "x"'), "the operator's Role <pool>-router gives them"),
        (saying(b"<html>not for you</html>"), "no list of Pods"),
        (saying(b'{"kind": "PodList", "metadata": {}, "items": []}'), "no list of Pods"),
        (saying(b'{"metadata": {"resourceVersion": "1"}, "items": [{"kind": "Pod"}]}'), "without a name or version"),
        (hanging, "did not answer within 0.5 s"),
    ],
)
async def test_a_list_that_fails_keeps_the_last_set_says_why_and_is_asked_for_again(api, followed, fault, words):
    api.faults.extend([fault] * 3)
    api.cut()
    await eventually(lambda: followed.membership.trouble and words in followed.membership.trouble)
    assert followed.pods == ["a"]
    await api.put(engine_pod("b"))
    await eventually(lambda: followed.pods == ["a", "b"] and followed.membership.trouble is None)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"garbage\n", "no watch event"),
        (b"[]\n", "no watch event"),
        (b'{"type": "ADDED", "object": {"metadata": {}}}\n', "without a name or version"),
        (b'{"type": "ERROR", "object": {"code": 500, "message": "decoding failed"}}\n', "500: decoding failed"),
        (b'{"type": "ERROR", "object": "oh"}\n', "no watch event"),
        (b"x" * ((8 << 20) + 1), "an event of more than 8388608 bytes"),
    ],
)
async def test_a_watch_that_says_what_cannot_be_read_is_given_up_and_all_is_listed_anew(
    api, followed, said, words, caplog
):
    api.keep(engine_pod("b"))
    await api.say(said)
    await eventually(lambda: followed.pods == ["a", "b"])
    assert words in caplog.text
    await eventually(lambda: followed.membership.trouble is None)


async def test_a_watch_that_dies_in_silence_is_found_by_its_time(api, follow, caplog):
    followed = follow(Patience(list_s=1, watch_s=0.1, grace_s=0.2))
    await eventually(lambda: api.watches)
    api.keep(engine_pod("a"))
    await eventually(lambda: followed.pods == ["a"])
    assert "did not answer within 0.3 s" in caplog.text


async def test_watches_that_end_at_once_are_not_asked_for_in_a_circle(api, followed, caplog):
    api.faults.extend([api.listing, saying(b"")] * 2)
    api.cut()
    await eventually(lambda: not api.faults and api.watches)
    assert "ended a watch at once" in caplog.text


async def test_an_event_cut_in_the_middle_is_not_taken(api, followed, caplog):
    api.faults.extend([api.listing, saying(b'{"type": "DELETED", "obj')])
    api.cut()
    await eventually(lambda: not api.faults and api.watches)
    assert "cut within an event" in caplog.text
    assert followed.pods == ["a"]


async def test_the_api_servers_wish_to_be_left_alone_is_heeded(api, followed):
    loop = asyncio.get_running_loop()
    api.faults.append(answering(429, "too many requests", **{"Retry-After": "1"}))
    since = loop.time()
    api.cut()
    await eventually(lambda: api.lists == 3)
    assert loop.time() - since >= 1


async def test_a_wish_of_an_hour_is_not_heeded_to_its_end(api, followed, monkeypatch):
    monkeypatch.setattr("kvpool_router.membership.kube_impl.LONGEST_WISH_S", 0.1)
    api.faults.append(answering(503, "later", **{"Retry-After": "3600"}))
    api.keep(engine_pod("b"))
    api.cut()
    await eventually(lambda: followed.pods == ["a", "b"])


async def test_an_api_server_that_is_away_is_found_again(api, server, follow):
    away = ApiServer("http://127.0.0.1:1", server[1].credentials)
    followed = Followed(away)
    task = asyncio.create_task(followed.run())
    await eventually(lambda: followed.membership.trouble)
    assert "the API server http://127.0.0.1:1: the connection failed: Cannot connect" in followed.membership.trouble
    assert followed.snapshots == []
    task.cancel()
    await asyncio.wait([task])


async def test_a_token_that_was_renewed_is_used_from_the_next_request_on(api, server, followed):
    (server[1].credentials / "token").write_text("second")
    api.cut()
    await eventually(lambda: len(api.seen) == 4)
    assert {request.headers["Authorization"] for request in api.seen[2:]} == {"Bearer second"}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("token", None, "token cannot be read"),
        ("token", b"\xff", "token cannot be read"),
        ("token", b" \n", "holds no token"),
        ("token", b"two\nlines", "holds no token"),
        ("ca.crt", None, "authority's certificate cannot be read"),
        ("ca.crt", b"none", "authority's certificate cannot be read"),
    ],
)
async def test_credentials_that_cannot_be_used_say_so_with_the_mend(api, server, followed, name, content, words):
    file = server[1].credentials / name
    before = file.read_bytes()
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    api.cut()
    await eventually(lambda: followed.membership.trouble and words in followed.membership.trouble)
    assert "mount the service account's token there" in followed.membership.trouble
    assert followed.pods == ["a"]
    file.write_bytes(before)
    await eventually(lambda: followed.membership.trouble is None)


async def test_a_pod_that_is_left_out_is_named_for_as_long_as_it_is_there(api, followed):
    await api.put(engine_pod("b", annotations={"kvpool.dev/data-parallel-size": "x"}))
    await eventually(lambda: followed.membership.trouble)
    assert "pods left out: pod b" in followed.membership.trouble
    await api.delete("b")
    await eventually(lambda: followed.membership.trouble is None)
    assert followed.pods == ["a"]


async def test_leaving_ends_the_watch(api, followed, server):
    async with aclosing(KubeMembership(PodsApi(server[1], "ns", ""), QUICK).snapshots()) as snapshots:
        async for _ in snapshots:
            break
    assert len(api.watches) == 1


def test_pauses_double_up_to_the_longest_and_are_spread():
    longest = [BackOff(jitter=lambda: 0.0).pause_s(failures) for failures in range(8)]
    shortest = [BackOff(jitter=lambda: 1.0).pause_s(failures) for failures in range(8)]
    assert longest == [0.5, 1, 2, 4, 8, 8, 8, 8]
    assert shortest == [pause / 2 for pause in longest]
    assert all(a <= b for a, b in pairwise(BackOff(jitter=lambda: 0.3).pause_s(n) for n in range(2000)))


names = st.sampled_from(["a", "b", "c"])


@given(st.lists(st.tuples(st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]), names)))
def test_the_set_after_events_is_the_set_that_a_list_at_that_version_would_give(history):
    pods: dict[str, dict] = {}
    known = KnownPods("0")
    for at, (kind, name) in enumerate(history, 1):
        pod = engine_pod(name, restarts=at)
        pod["metadata"]["resourceVersion"] = str(at)
        known.take(WatchEvent(kind, pod))
        if kind == "DELETED":
            pods.pop(name, None)
        elif kind != "BOOKMARK":
            pods[name] = pod
    listed = {"metadata": {"resourceVersion": str(len(history))}, "items": list(pods.values())}
    listing = msgspec.convert(listed, PodList)
    assert KnownPods.listed(listing) == known
