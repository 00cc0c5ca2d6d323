"""News from watches, across their ends."""

import asyncio
from contextlib import aclosing

from kvpool_operator.cluster import seam
from kvpool_operator.cluster.seam import Change, Expired, Ref, Refused, Unavailable
from kvpool_operator.manifests import name_of
from kvpool_operator.watching import PoolNews, changes
from store_cluster import StoreCluster

REF = Ref(seam.POOL, "default", "qwen")


class Troubled(StoreCluster):
    """Its next calls fail as told, one each."""

    def __post_init__(self):
        super().__post_init__()
        self.list_troubles, self.watch_troubles = [], []

    async def list(self, kind, *, namespace, labels):
        if self.list_troubles:
            raise self.list_troubles.pop()
        return await super().list(kind, namespace=namespace, labels=labels)

    async def watch(self, kind, *, namespace, labels, resource_version):
        if self.watch_troubles:
            if (trouble := self.watch_troubles.pop()) is not None:
                raise trouble
            return
        async for change in super().watch(kind, namespace=namespace, labels=labels, resource_version=resource_version):
            yield change


async def heard(cluster, count, during=None):
    """The first `count` changes of pools as (type, name); `during` runs after the first."""
    told = []
    async with asyncio.timeout(10), aclosing(changes(cluster, seam.POOL, {}, re_list_s=0.001)) as news:
        async for change in news:
            told.append((change.type, name_of(change.object)))
            if len(told) == count:
                return told
            if during is not None and len(told) == 1:
                await during()
    return told


async def test_what_is_there_comes_first_and_then_what_changes():
    cluster = Troubled()
    await cluster.user_applies("a")
    assert await heard(cluster, 2, during=lambda: cluster.user_applies("b")) == [("ADDED", "a"), ("ADDED", "b")]


async def test_after_any_trouble_all_is_listed_anew():
    for trouble in (Expired("too old"), Unavailable("down"), None):
        cluster = Troubled()
        await cluster.user_applies("a")
        cluster.watch_troubles = [trouble]
        assert await heard(cluster, 2) == [("ADDED", "a"), ("ADDED", "a")]


async def test_what_went_between_two_lists_is_told_as_gone():
    cluster = Troubled()
    for name in ("a", "b"):
        await cluster.user_applies(name)
    gone = cluster.pool("a")

    async def delete_unseen():
        cluster.watch_troubles = [None]
        cluster.store.delete(Ref(seam.POOL, "default", "a"), uid=gone["metadata"]["uid"])

    told = await heard(cluster, 4, during=delete_unseen)
    assert told == [("ADDED", "a"), ("ADDED", "b"), ("DELETED", "a"), ("ADDED", "b")]


async def test_what_was_told_as_gone_is_not_told_again():
    cluster = Troubled()
    await cluster.user_applies("a")
    uid = cluster.pool("a")["metadata"]["uid"]

    async def delete_seen():
        cluster.store.delete(Ref(seam.POOL, "default", "a"), uid=uid)
        await cluster.user_applies("b")

    assert await heard(cluster, 3, during=delete_seen) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "b")]


async def test_a_list_that_fails_is_tried_again():
    cluster = Troubled()
    await cluster.user_applies("a")
    cluster.list_troubles = [Unavailable("down"), Unavailable("busy", retry_after_s=0.01), Refused("no such kind")]
    assert await heard(cluster, 1) == [("ADDED", "a")]


def change(kind="MODIFIED", **metadata):
    return Change(kind, {"metadata": {"uid": "u", "generation": 1, **metadata}})


def test_our_own_writes_of_status_are_no_news():
    news = PoolNews()
    assert news.is_news(REF, change("ADDED"))
    assert not news.is_news(REF, change(resourceVersion="2"))
    assert news.is_news(REF, change(generation=2))
    assert news.is_news(REF, change(generation=2, deletionTimestamp="now"))


def test_a_pool_that_goes_and_one_that_comes_under_its_name_are_news():
    news = PoolNews()
    news.is_news(REF, change("ADDED"))
    assert news.is_news(REF, change("ADDED", uid="another"))
    assert news.is_news(REF, change("DELETED", uid="another"))
    assert news.is_news(REF, change("ADDED", uid="another"))
