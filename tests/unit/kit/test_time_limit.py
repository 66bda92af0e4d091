"""One timer ends whatever takes too long, and nothing else."""

import asyncio

import pytest
from tocsin_kit.time_limit import TimeLimit, TooLate

SHORT = 0.02


async def forever() -> None:
    await asyncio.Event().wait()


async def test_work_that_ends_in_time_gives_its_result_or_its_own_error() -> None:
    limit = TimeLimit(60.0)

    async def broken() -> None:
        raise TimeoutError("its own")

    assert await limit.wait(asyncio.sleep(0, "done")) == "done"
    with pytest.raises(TimeoutError, match="its own") as caught:
        await limit.wait(broken())
    assert not isinstance(caught.value, TooLate)


async def test_every_use_ends_however_many_began_before_it_and_ended_in_time() -> None:
    limit = TimeLimit(SHORT)
    for _ in range(3):
        await limit.wait(asyncio.sleep(0))
        outcomes = await asyncio.gather(*(limit.wait(forever()) for _ in range(5)), return_exceptions=True)
        assert [type(each) for each in outcomes] == [TooLate] * 5
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0


async def test_a_use_that_begins_while_the_timer_runs_for_another_ends_as_well() -> None:
    limit = TimeLimit(SHORT)
    first = asyncio.create_task(limit.wait(forever()))
    await asyncio.sleep(SHORT / 2)
    second = asyncio.create_task(limit.wait(forever()))
    assert [type(each) for each in await asyncio.gather(first, second, return_exceptions=True)] == [TooLate, TooLate]


async def test_a_cancel_from_elsewhere_is_no_timeout() -> None:
    limit = TimeLimit(60.0)
    task = asyncio.create_task(limit.wait(forever()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_that_meets_the_end_of_the_time_goes_on() -> None:
    limit = TimeLimit(SHORT)
    ended = asyncio.Event()

    async def stubborn() -> None:
        try:
            await forever()
        finally:
            ended.set()
            await asyncio.sleep(0)

    task = asyncio.create_task(limit.wait(stubborn()))
    await ended.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_work_that_swallows_the_cancel_leaves_none_behind() -> None:
    limit = TimeLimit(SHORT)

    async def deaf() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "late"
        return "never"

    assert await limit.wait(deaf()) == "late"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
