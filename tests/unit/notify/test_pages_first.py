"""Rounds over what is due give way to pages that come in."""

import asyncio

from tocsin_notify.app.delivery.pages_first import PagesFirst


async def test_a_round_waits_until_no_page_is_on_its_way() -> None:
    first = PagesFirst(most=600.0)
    await first.give_way()
    with first:
        with first:
            waiting = asyncio.create_task(first.give_way())
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done(), "the other one is"
    await waiting


async def test_a_page_that_fails_holds_up_nothing() -> None:
    first = PagesFirst(most=600.0)
    try:
        with first:
            raise ValueError
    except ValueError:
        await first.give_way()


async def test_a_round_waits_for_a_moment_alone() -> None:
    first = PagesFirst(most=0.001)
    with first:
        await first.give_way()
