"""Arming, moving and cancelling through Taskiq's own schedule API."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from taskiq import ScheduledTask, TaskiqMessage, TaskiqMiddleware
from tocsin_testkit.busy import within
from tocsin_timers import ScheduleUnsupported, Timer, TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import in_seconds, settled, until, working


class Acts:
    """Tasks of a broker that write down what they were called with."""

    def __init__(self, broker: TimerBroker) -> None:
        self.seen: list[tuple[str, str]] = []
        self.labels: dict[str, dict[str, object]] = {}
        self.at: dict[str, float] = {}

        @broker.task("act")
        async def act(what: str) -> None:
            self.seen.append(("act", what))
            self.at[what] = time.monotonic()

        @broker.task("typed")
        async def typed(what: Timestamp) -> None:
            self.seen.append(("typed", str(what.seconds)))

        self.act, self.typed = act, typed


async def test_a_timer_fires_once_when_it_is_due_with_its_ids(broker: TimerBroker) -> None:
    acts, source = Acts(broker), TimerSource(broker)

    class Look(TaskiqMiddleware):
        def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
            acts.labels[message.task_id] = message.labels
            return message

    broker.add_middlewares(Look())
    armed, due = time.monotonic(), in_seconds(0.3)
    await acts.act.kicker().with_schedule_id("a").schedule_by_time(source, due, "a")
    earlier = due - timedelta(seconds=0.1)
    await acts.act.kicker().with_schedule_id("b").with_task_id("b7").schedule_by_time(source, earlier, "b")
    async with working(broker):
        await until(lambda: len(acts.seen) == 2, "both fire")
        assert acts.seen == [("act", "b"), ("act", "a")]
        assert 0.29 < acts.at["a"] - armed < within(2)
        assert acts.labels["a"]["schedule_id"] == "a"
        assert acts.labels["b7"]["schedule_id"] == "b"
        await until(lambda: settled(broker), "both settled")


async def test_a_cancelled_timer_never_fires_and_cancel_says_what_it_did(broker: TimerBroker) -> None:
    acts, source = Acts(broker), TimerSource(broker)
    # Without a worker nothing is fired before it is cancelled, however slowly this test gets its turns.
    created = [
        await acts.act.kicker().with_schedule_id(f"{n}").schedule_by_time(source, in_seconds(0.15), str(n))
        for n in range(20)
    ]
    await created[0].unschedule()
    assert await source.delete_schedule("1")
    assert not await source.delete_schedule("1")
    assert await source.delete_schedules([str(n) for n in range(10)]) == 8
    async with working(broker):
        await until(lambda: len(acts.seen) >= 10, "the others fire")
        await until(lambda: settled(broker), "nothing is left")
        assert sorted(what for _, what in acts.seen) == [str(n) for n in range(10, 20)]


async def test_arming_again_moves_and_never_doubles(broker: TimerBroker) -> None:
    acts, source = Acts(broker), TimerSource(broker)
    async with working(broker):
        kicker = acts.act.kicker
        # Far enough away that a busy machine moves it before it fires.
        await kicker().with_schedule_id("x").schedule_by_time(source, in_seconds(1.2), "first")
        await kicker().with_schedule_id("x").schedule_by_time(source, in_seconds(1.5), "later")
        await kicker().with_schedule_id("y").schedule_by_time(source, in_seconds(3600), "y")
        await kicker().with_schedule_id("y").schedule_by_time(source, in_seconds(0.2), "earlier")
        await until(lambda: len(acts.seen) == 2, "each fires")
        await until(lambda: settled(broker), "nothing is left")
        assert acts.seen == [("act", "earlier"), ("act", "later")]


async def test_an_earlier_timer_wakes_a_sleeping_promoter(broker: TimerBroker) -> None:
    """The promoters sleep up to a second: without the wake-up this one would fire late."""
    acts, source = Acts(broker), TimerSource(broker)
    late = []
    async with working(broker):
        await acts.act.kicker().with_schedule_id("far").schedule_by_time(source, in_seconds(3600), "far")
        for n in range(5):
            expected = time.monotonic() + 0.05
            await acts.act.kicker().schedule_by_time(source, in_seconds(0.05), str(n))
            await until(lambda n=n: str(n) in acts.at, "it fires")  # type: ignore[misc]
            late.append(acts.at[str(n)] - expected)
    assert sorted(late)[2] < within(0.25), late


async def test_many_at_one_instant_come_in_order_and_once(broker: TimerBroker) -> None:
    acts, source = Acts(broker), TimerSource(broker)
    start = in_seconds(-1)
    due = {f"{n:04}": start + timedelta(microseconds=n // 3) for n in range(2500)}
    added = await source.arm(source.timer(id, at, acts.act, id) for id, at in reversed(due.items()))
    assert added == 2500
    async with working(broker, concurrency=1):
        await until(lambda: len(acts.seen) >= 2500, "all fire")
    assert [what for _, what in acts.seen] == sorted(due)


async def test_bulk_arming_moves_too_and_carries_messages_and_priorities(broker: TimerBroker) -> None:
    acts, source = Acts(broker), TimerSource(broker)
    stamp = Timestamp(seconds=42)
    assert await source.arm([source.timer("a", in_seconds(3600), acts.act, "old")]) == 1
    urgent = broker.encode(acts.act, "urgent", labels={"priority": "critical"})
    now = in_seconds(0)
    timers = [
        source.timer("a", now, acts.act, "new"),
        source.timer("b", now, acts.typed, stamp),
        Timer("c", now, urgent),
    ]
    assert await source.arm(timers) == 2
    schedules = [
        ScheduledTask(task_name="act", labels={}, args=[what], kwargs={}, schedule_id=what, time=now) for what in "de"
    ]
    assert await source.add_schedules(schedules) == 2
    async with working(broker, concurrency=1):
        await until(lambda: len(acts.seen) == 5, "all fire")
    assert sorted(acts.seen) == [("act", "d"), ("act", "e"), ("act", "new"), ("act", "urgent"), ("typed", "42")]


async def test_only_redis_clock_counts(broker: TimerBroker) -> None:
    """The owner's clock is twenty minutes ahead: what it calls now plus 0.2 s is 0.2 s from now."""
    acts = Acts(broker)
    ahead = timedelta(minutes=20)
    source = TimerSource(broker, clock=lambda: datetime.now(UTC) + ahead)
    async with working(broker):
        armed = time.monotonic()
        await acts.act.kicker().schedule_by_time(source, datetime.now(UTC) + ahead + timedelta(seconds=0.2), "one")
        await source.arm([source.timer("two", datetime.now(UTC) + ahead + timedelta(seconds=0.2), acts.act, "two")])
        await acts.act.kicker().schedule_by_time(source, datetime.now(UTC), "long overdue")
        await until(lambda: len(acts.seen) == 3, "all fire")
    assert acts.seen[0] == ("act", "long overdue")
    assert 0.19 < acts.at["one"] - armed < within(2)


async def test_a_time_without_a_zone_is_utc(broker: TimerBroker) -> None:
    acts, source = Acts(broker), TimerSource(broker)
    async with working(broker):
        naive = (datetime.now(UTC) - timedelta(seconds=1)).replace(tzinfo=None)
        await acts.act.kicker().schedule_by_time(source, naive, "naive")
        await until(lambda: acts.seen == [("act", "naive")], "it fires")


async def test_the_delay_label_delays_and_can_be_taken_back(broker: TimerBroker) -> None:
    acts = Acts(broker)
    async with working(broker):
        sent = time.monotonic()
        await acts.act.kicker().with_labels(delay=0.25).kiq("late")
        await acts.act.kicker().with_labels(delay=0.25).with_task_id("gone").kiq("gone")
        await acts.act.kiq("now")
        assert await broker.cancel_delayed("gone")
        assert not await broker.cancel_delayed("gone")
        await until(lambda: len(acts.seen) == 2, "both run")
        assert 0.24 < acts.at["late"] - sent < within(2)
        await until(lambda: settled(broker), "nothing is left")
    assert acts.seen == [("act", "now"), ("act", "late")]


async def test_kick_many_sends_now_and_later(broker: TimerBroker) -> None:
    acts = Acts(broker)
    now = [broker.encode(acts.act, f"{n:04}") for n in range(1500)]
    later = [broker.encode(acts.act, "later", labels={"delay": 0.1})]
    await broker.kick_many([*later, *now])
    async with working(broker, concurrency=1):
        await until(lambda: len(acts.seen) == 1501, "all run")
    assert [what for _, what in acts.seen if what != "later"] == [f"{n:04}" for n in range(1500)]


async def test_concurrent_callers_each_get_their_own_answer(broker: TimerBroker) -> None:
    acts, source = Acts(broker), TimerSource(broker)
    far = in_seconds(3600)

    async def arm(n: int) -> None:
        await acts.act.kicker().with_schedule_id(str(n)).schedule_by_time(source, far, str(n))

    await asyncio.gather(*(arm(n) for n in range(2500)))
    assert (await broker.figures()).delayed == 2500
    answers = await asyncio.gather(*(source.delete_schedule(str(n)) for n in range(2400, 2600)))
    assert answers == [True] * 100 + [False] * 100


async def test_cron_and_interval_are_refused_with_the_way_out(broker: TimerBroker) -> None:
    acts, source = Acts(broker), TimerSource(broker)
    with pytest.raises(ScheduleUnsupported, match=r"not cron schedules.*LabelScheduleSource"):
        await acts.act.kicker().schedule_by_cron(source, "* * * * *", "x")
    with pytest.raises(ScheduleUnsupported, match="not interval schedules"):
        await acts.act.kicker().schedule_by_interval(source, 60, "x")
    assert await source.get_schedules() == []


async def test_bad_labels_and_ids_are_refused(broker: TimerBroker) -> None:
    acts, source = Acts(broker), TimerSource(broker)
    with pytest.raises(ValueError, match="unknown priority 'urgent'"):
        await source.arm([Timer("a", in_seconds(1), broker.encode(acts.act, "x", labels={"priority": "urgent"}))])
    for id in ("", "~x"):
        with pytest.raises(ValueError, match="a timer's id"):
            await source.arm([source.timer(id, in_seconds(1), acts.act, "x")])
    with pytest.raises(ValueError, match="a delay of nan"):
        await broker.kick(broker.encode(acts.act, "x", labels={"delay": float("nan")}))
    assert (await broker.figures()).delayed == 0


async def test_middlewares_see_a_timer_when_it_is_armed(broker: TimerBroker) -> None:
    """So that a trace leads from the call that armed a timer to the task it fired."""
    acts, source = Acts(broker), TimerSource(broker)
    order: list[str] = []

    class Trace(TaskiqMiddleware):
        async def pre_send(self, message: TaskiqMessage) -> TaskiqMessage:
            order.append(f"pre {message.task_id}")
            message.labels["trace"] = "t1"
            return message

        async def post_send(self, message: TaskiqMessage) -> None:
            order.append(f"post {message.task_id}")

        def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
            order.append(f"run {message.task_id} {message.labels['trace']}")
            return message

    broker.add_middlewares(Trace())
    async with working(broker):
        await acts.act.kicker().with_schedule_id("x").schedule_by_time(source, in_seconds(0.1), "x")
        await until(lambda: len(order) == 3, "it runs")
    assert order == ["pre x", "post x", "run x t1"]


async def test_shards_hold_all_of_it_between_them(make_broker: MakeBroker) -> None:
    broker = make_broker(shards=4)
    acts, source = Acts(broker), TimerSource(broker)
    due = in_seconds(0.2)
    await source.arm(source.timer(str(n), due, acts.act, str(n)) for n in range(200))
    assert all([(await shard.figures())[2] > 20 for shard in broker.shards])
    assert await source.delete_schedules(str(n) for n in range(100)) == 100
    async with working(broker):
        await broker.kick_many(broker.encode(acts.act, f"now{n}") for n in range(100))
        await until(lambda: len(acts.seen) >= 200, "all run")
        await until(lambda: settled(broker), "nothing is left")
    assert sorted(what for _, what in acts.seen) == sorted(
        [f"now{n}" for n in range(100)] + [str(n) for n in range(100, 200)]
    )
