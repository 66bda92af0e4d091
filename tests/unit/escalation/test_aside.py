"""What takes long to compute is asked one question at a time, and tenants take turns."""

import asyncio
import itertools
import operator
import threading

import pytest
from tocsin_escalation.app import aside as module
from tocsin_escalation.app.aside import Questions, aside
from tocsin_kit.errors import TocsinError
from tocsin_testkit.busy import within


async def test_tenants_take_turns_and_each_has_one_question_before_the_thread() -> None:
    asked, go, order = threading.Event(), threading.Event(), list[str]()

    def first() -> None:
        asked.set()
        assert go.wait(within(20))
        order.append("a1")

    questions = [asyncio.create_task(aside("a", first))]
    await asyncio.to_thread(asked.wait, within(20))
    for org_id, name in (("a", "a2"), ("a", "a3"), ("b", "b1")):
        questions.append(asyncio.create_task(aside(org_id, order.append, name)))
    while module._THREAD._work_queue.qsize() < 1:
        await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*questions)
    assert order == ["a1", "b1", "a2", "a3"]
    assert module._lines == {}


async def test_work_begins_anew_when_its_question_is_answered() -> None:
    questions, begun, computed = Questions(), 0, list[int]()

    def compute(number: int) -> int:
        computed.append(number)
        return number * 2

    async def work() -> int:
        nonlocal begun
        begun += 1
        return questions.answer(compute, read)

    read = 7
    assert await questions.answering("a", work) == 14
    assert (begun, computed) == (2, [7])
    read = 8  # what it read has changed
    assert await questions.answering("a", work) == 16
    assert computed == [7, 8]


async def test_work_that_finds_another_question_each_time_is_given_up() -> None:
    questions, numbers = Questions(), itertools.count()

    async def work() -> int:
        return int(questions.answer(operator.neg, next(numbers)))

    with pytest.raises(TocsinError) as caught:
        await questions.answering("a", work)
    assert caught.value.reason_name == "CONFLICT"
    assert next(numbers) == 4
