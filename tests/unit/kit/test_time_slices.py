"""Long work on the event loop lets other tasks run."""

import asyncio

import pytest
from tocsin_kit import time_slices
from tocsin_kit.time_slices import CountSlice, TimeSlice


async def test_long_work_gives_way_and_short_work_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def others_during_a_hundred_items() -> int:
        others = 0

        async def other() -> None:
            nonlocal others
            while True:
                others += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        time_slice = TimeSlice()
        for _ in range(100):
            await time_slice.yield_if_over()
        task.cancel()
        return others

    monkeypatch.setattr(time_slices, "SLICE_SECONDS", 3600.0)
    assert await others_during_a_hundred_items() == 0
    for _ in range(2):  # the slice that began is over with the next run of the loop
        await asyncio.sleep(0)
    monkeypatch.setattr(time_slices, "SLICE_SECONDS", 0.0)
    assert await others_during_a_hundred_items() >= 99


async def test_of_many_long_works_one_goes_on_in_each_run_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others waited for a slice of each: twenty bodies that were inflated at once held them up for 0.2 s between any two steps."""
    monkeypatch.setattr(time_slices, "SLICE_SECONDS", 0.0)
    loop, now, most = asyncio.get_running_loop(), 0, 0

    def begin_run() -> None:
        nonlocal now, most
        most, now = max(most, now), 0
        watch.append(loop.call_soon(begin_run))

    async def work(time_slice: TimeSlice) -> int:
        nonlocal now
        for _ in range(items):
            await time_slice.yield_if_over()
            now += 1
        return items

    items, watch = 10, [loop.call_soon(begin_run)]
    assert await asyncio.gather(*(work(TimeSlice()) for _ in range(10))) == [items] * 10
    watch[-1].cancel()
    assert most == 1


async def test_long_works_begin_with_what_is_left_of_the_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slices, "SLICE_SECONDS", 3600.0)
    first, second = TimeSlice(), TimeSlice()
    assert first._until == second._until
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert TimeSlice()._until > first._until


async def test_a_slice_may_be_shorter_than_that_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slices, "SLICE_SECONDS", 3600.0)
    short, long = TimeSlice(0.0), TimeSlice()
    assert await short.yield_if_over()
    assert not await long.yield_if_over()


async def test_a_long_work_that_is_cancelled_while_it_waits_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_slices, "SLICE_SECONDS", 0.0)
    waiting = [asyncio.create_task(TimeSlice().yield_if_over()) for _ in range(4)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    assert await asyncio.gather(*waiting[2:], waiting[0]) == [True] * 3
    assert await TimeSlice().yield_if_over()


async def test_slices_may_be_counted_in_items() -> None:
    others, runs = list[int](), 0

    async def other() -> None:
        nonlocal runs
        while True:
            runs += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    time_slice = CountSlice(4)
    for _ in range(10):
        await time_slice.yield_if_over()
        others.append(runs)
    task.cancel()
    assert others == [0] * 4 + [1] * 4 + [2] * 2
