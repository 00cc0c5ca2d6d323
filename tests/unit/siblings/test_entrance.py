import asyncio

from kvpool_router.siblings.arrival import Entrance


async def passes(entrance):
    """Whether one who comes now need not wait."""
    try:
        async with asyncio.timeout(0):
            await entrance.passed()
    except TimeoutError:
        return False
    return True


async def test_an_entrance_that_was_never_closed_lets_everyone_pass():
    entrance = Entrance()
    assert entrance.is_open
    assert await passes(entrance)


async def test_a_closed_entrance_holds_all_who_come_until_it_is_opened():
    entrance = Entrance()
    entrance.close()
    assert not entrance.is_open
    waiting = [asyncio.create_task(entrance.passed()) for _ in range(3)]
    assert not await passes(entrance)
    assert not any(each.done() for each in waiting)
    entrance.open()
    async with asyncio.timeout(10):
        await asyncio.gather(*waiting)
    assert entrance.is_open
    assert await passes(entrance)


async def test_an_entrance_that_is_closed_again_holds_again():
    entrance = Entrance()
    for _ in range(2):
        entrance.close()
        assert not await passes(entrance)
        entrance.open()
        assert await passes(entrance)
