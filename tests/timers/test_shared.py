"""Timers that share a task: each is armed, moved and cancelled by itself, and those that are due together run as one."""

import pytest
from taskiq.message import BrokerMessage
from tocsin_timers import Timer, TimerBroker, TimerSource
from tocsin_timers.promoter import BATCH

from tests.timers.conftest import MakeBroker
from tests.timers.support import done, in_seconds, noting, settled, until, working


def look(broker: TimerBroker, what: str, priority: str = "normal") -> BrokerMessage:
    """One message that says so."""
    task = broker.find_task("note")
    assert task is not None
    return broker.encode(task, what, task_id="", labels={"priority": priority})


async def test_thousands_that_are_due_at_one_instant_are_few_tasks(broker: TimerBroker) -> None:
    ran, instant = noting(broker), in_seconds(0)
    message = look(broker, "look")
    many = 2 * BATCH + 1
    assert await TimerSource(broker).arm(Timer(str(n), instant, message, shared=True) for n in range(many)) == many
    async with working(broker):
        await until(lambda: done(broker, 3), "one task for each step of the promoter")
        await until(lambda: settled(broker), "no timer is left")
    assert ran == ["look"] * 3


async def test_cancelling_or_moving_one_leaves_the_others(broker: TimerBroker) -> None:
    ran, instant, source = noting(broker), in_seconds(0), TimerSource(broker)
    message = look(broker, "look")
    await source.arm([Timer(id, instant, message, shared=True) for id in ("first", "moved", "last")])
    await source.arm([Timer("moved", in_seconds(3600), message, shared=True)])
    assert await source.delete_schedule("first")
    async with working(broker):
        await until(lambda: ran == ["look"], "the one that is left fires")
        await until(lambda: done(broker, 1), "it is settled")
    assert (await broker.figures()).delayed == 1
    assert await source.delete_schedule("moved")
    assert not await source.delete_schedule("last")


async def test_only_equal_ones_that_say_so_share(broker: TimerBroker) -> None:
    ran, instant = noting(broker), in_seconds(0)
    one, other, urgent = look(broker, "one"), look(broker, "other"), look(broker, "urgent", "critical")
    alone = look(broker, "alone")
    timers = [
        *(Timer(f"one{n}", instant, one, shared=True) for n in range(3)),
        *(Timer(f"other{n}", instant, other, shared=True) for n in range(3)),
        *(Timer(f"urgent{n}", instant, urgent, shared=True) for n in range(3)),
        *(Timer(f"alone{n}", instant, alone) for n in range(3)),
    ]
    await TimerSource(broker).arm(timers)
    async with working(broker):
        await until(lambda: done(broker, 6), "all have fired")
    assert sorted(ran) == ["alone", "alone", "alone", "one", "other", "urgent"]


async def test_a_priority_that_begins_with_a_capital_has_no_shared_ones(make_broker: MakeBroker) -> None:
    broker = make_broker(priorities=("Urgent", "normal"))
    ran, instant = noting(broker), in_seconds(0)
    message = look(broker, "look", "Urgent")
    await TimerSource(broker).arm([Timer(str(n), instant, message, shared=True) for n in range(3)])
    async with working(broker):
        await until(lambda: ran == ["look"] * 3, "each fires")


def test_priorities_differ_in_more_than_the_case_of_their_letter(make_broker: MakeBroker) -> None:
    with pytest.raises(ValueError, match="different letters"):
        make_broker(priorities=("Now", "normal"))
