"""One timer ends all work that takes too long, and no other."""

import asyncio
import contextlib

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
    limit = TimeLimit(0.2)  # far apart: on a slow machine both would be over when the timer is
    first = asyncio.create_task(limit.wait(forever()))
    await asyncio.sleep(0.1)
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


async def test_work_that_answers_the_end_with_an_error_of_its_own_raises_that_and_leaves_no_cancel_behind() -> None:
    limit = TimeLimit(SHORT)

    async def complaining() -> None:
        try:
            await forever()
        except asyncio.CancelledError as error:
            raise ValueError("cut off") from error

    with pytest.raises(ValueError, match="cut off"):
        await limit.wait(complaining())
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_the_time_ends_as_well_in_a_task_that_outlived_a_cancel() -> None:
    limit = TimeLimit(SHORT)

    async def stays() -> int:
        task = asyncio.current_task()
        assert task is not None
        with contextlib.suppress(asyncio.CancelledError):
            await forever()
        with pytest.raises(TooLate):
            await limit.wait(forever())
        return task.cancelling()

    staying = asyncio.create_task(stays())
    await asyncio.sleep(0)
    staying.cancel()
    assert await staying == 1, "the cancel from before is still asked for"


async def test_one_task_is_inside_of_several_limits_and_the_shortest_ends_it() -> None:
    outer, inner = TimeLimit(SHORT), TimeLimit(60.0)
    with pytest.raises(TooLate):
        await outer.wait(inner.wait(forever()))
    with pytest.raises(TooLate):
        await inner.wait(outer.wait(forever()))
    assert await inner.wait(asyncio.sleep(2 * SHORT, "nothing of it is left")) == "nothing of it is left"
