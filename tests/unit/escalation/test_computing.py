"""What takes long to compute is asked one question at a time, and tenants take turns."""

import asyncio
import itertools
import operator
import threading

import pytest
from tocsin_escalation.app import computing as module
from tocsin_escalation.app.computing import Computations, compute
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import within


async def test_tenants_take_turns_and_each_has_one_question_before_the_thread() -> None:
    asked, go, order = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        asked.set()
        assert go.wait(within(20))
        order.append("a1")

    computations = [asyncio.create_task(compute("a", first))]
    await asyncio.to_thread(asked.wait, within(20))
    for org_id, name in (("a", "a2"), ("a", "a3"), ("b", "b1")):
        computations.append(asyncio.create_task(compute(org_id, order.append, name)))
    while module._THREAD._work_queue.qsize() < 1:
        await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*computations)
    assert order == ["a1", "b1", "a2", "a3"]
    assert module._queues == {}


async def test_work_begins_anew_when_its_question_is_answered() -> None:
    computations, begun, computed = Computations(), 0, list[int]()

    def compute(number: int) -> int:
        computed.append(number)
        return number * 2

    async def work() -> int:
        nonlocal begun
        begun += 1
        return computations.result(compute, read)

    read = 7
    assert await computations.run("a", work) == 14
    assert (begun, computed) == (2, [7])
    read = 8  # what it read has changed
    assert await computations.run("a", work) == 16
    assert computed == [7, 8]


async def test_work_that_finds_another_question_each_time_is_given_up() -> None:
    computations, numbers = Computations(), itertools.count()

    async def work() -> int:
        return int(computations.result(operator.neg, next(numbers)))

    with pytest.raises(TocsinError) as caught:
        await computations.run("a", work)
    assert caught.value.reason_name == "CONFLICT"
    assert next(numbers) == 4
