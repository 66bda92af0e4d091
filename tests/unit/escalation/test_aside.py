"""What takes long to compute is asked one question at a time, and tenants take turns."""

import asyncio
import threading

from tocsin_escalation.app import aside as module
from tocsin_escalation.app.aside import aside
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
