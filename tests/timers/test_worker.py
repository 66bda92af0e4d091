"""Running tasks: order, limits, pauses and stopping."""

import asyncio
import time
from typing import Annotated, Any

import pytest
from prometheus_client import CollectorRegistry
from taskiq import TaskiqDepends
from taskiq.exceptions import SendTaskError
from tocsin_testkit.busy import within
from tocsin_timers import BackoffMiddleware, QueueFull, TimerBroker, TimerMetrics, TimerSource, Worker
from tocsin_timers.delivery import DONE
from tocsin_timers.shard import Promotion, Shard

from tests.timers.conftest import MakeBroker
from tests.timers.support import done, in_seconds, settled, until, working


async def test_a_critical_task_does_not_wait_behind_a_flood(broker: TimerBroker) -> None:
    order: list[str] = []

    @broker.task("note")
    async def note(what: str) -> None:
        order.append(what)
        await asyncio.sleep(0.001)

    await broker.kick_many(broker.encode(note, "normal") for _ in range(300))
    await note.kicker().with_labels(priority="critical").kiq("critical")
    async with working(broker, concurrency=4):
        await until(lambda: len(order) == 301, "all run")
    assert order.index("critical") < 20, order.index("critical")


async def test_slow_normal_tasks_leave_a_slot_for_a_critical_one(broker: TimerBroker) -> None:
    release, running, urgent = asyncio.Event(), 0, asyncio.Event()

    @broker.task("slow")
    async def slow() -> None:
        nonlocal running
        running += 1
        await release.wait()

    @broker.task("page", priority="critical")
    async def page() -> None:
        urgent.set()

    await broker.kick_many(broker.encode(slow) for _ in range(20))
    async with working(broker, concurrency=8):
        await until(lambda: running == 7, "every slot but one is taken")
        await page.kiq()
        async with asyncio.timeout(within(5)):
            await urgent.wait()
        assert running == 7
        release.set()
        await until(lambda: running == 20, "the slow ones run")


async def test_a_busy_worker_takes_nothing_an_idle_one_could_run(make_broker: MakeBroker) -> None:
    """One slot each, two long tasks: neither worker may hold both."""
    release = asyncio.Event()
    ran: list[str] = []

    def with_task(name: str) -> TimerBroker:
        broker = make_broker(priorities=("normal",))

        @broker.task("long")
        async def long() -> None:
            ran.append(name)
            await release.wait()

        return broker

    first, second = with_task("first"), with_task("second")
    async with working(first, concurrency=1), working(second, concurrency=1):
        for _ in range(2):
            await first.kick(first.encode(first.find_task("long")))  # type: ignore[arg-type]
        await until(lambda: len(ran) == 2, "both run at once")
        assert sorted(ran) == ["first", "second"]
        release.set()


async def test_concurrency_is_a_limit(broker: TimerBroker) -> None:
    running = most = done = 0

    @broker.task("count")
    async def count() -> None:
        nonlocal running, most, done
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.002)
        running -= 1
        done += 1

    await broker.kick_many(broker.encode(count) for _ in range(60))
    async with working(broker, concurrency=5):
        await until(lambda: done == 60, "all run")
    assert 1 < most <= 5


async def test_a_worker_that_works_is_given_more_slots_and_fewer(make_broker: MakeBroker) -> None:
    broker, running, release = make_broker(priorities=("normal",)), 0, asyncio.Semaphore(0)

    @broker.task("held")
    async def held() -> None:
        nonlocal running
        running += 1
        await release.acquire()
        running -= 1

    await broker.kick_many(broker.encode(held) for _ in range(12))
    worker, stop = Worker(broker, concurrency=2), asyncio.Event()
    work = asyncio.create_task(worker.run(stop))
    await until(lambda: running == 2, "both slots are taken")
    worker.resize(5)
    await until(lambda: running == 5, "the new ones as well")
    worker.resize(1)
    for left in (4, 3, 2, 1):
        release.release()
        await until(lambda left=left: running == left, "what ends is not replaced")  # type: ignore[misc]
    release.release()
    await until(lambda: running == 1 and release.locked(), "the next one has the slot")
    for _ in range(7):
        release.release()
    await until(lambda: running == 0, "all have run")
    stop.set()
    await work


async def test_the_rate_limit_holds_over_two_workers_and_spares_the_critical(make_broker: MakeBroker) -> None:
    at: list[float] = []
    critical: list[float] = []

    def with_tasks() -> TimerBroker:
        broker = make_broker()

        @broker.task("limited")
        async def limited() -> None:
            at.append(time.monotonic())

        @broker.task("page", priority="critical")
        async def page() -> None:
            critical.append(time.monotonic())

        return broker

    first, second = with_tasks(), with_tasks()
    limited, page = first.find_task("limited"), first.find_task("page")
    assert limited is not None
    assert page is not None
    await first.kick_many(first.encode(limited) for _ in range(70))
    start = time.monotonic()
    async with working(first, rate_limit=50), working(second, rate_limit=50):
        await until(lambda: len(at) >= 20, "some run")
        sent = time.monotonic()
        await page.kiq()
        await until(lambda: bool(critical), "the page runs")
        assert critical[0] - sent < within(0.3)
        await until(lambda: len(at) == 70, "all run")
    # 50/s, and a tenth of a second's worth at once for the bucket and for each worker.
    assert at[-1] - start > (70 - 15) / 50


async def test_a_paused_queue_starts_nothing_until_resumed_and_loses_nothing(make_broker: MakeBroker) -> None:
    ran: list[str] = []
    operator, broker = make_broker(), make_broker()

    @broker.task("note")
    async def note(what: str) -> None:
        ran.append(what)

    async with working(broker) as worker:
        await note.kiq("before")
        await until(lambda: ran == ["before"], "it runs")
        await operator.pause()
        assert await operator.is_paused()
        await until(lambda: worker._consumer.paused, "the worker obeys", limit=1.0)
        await note.kiq("while")
        await note.kicker().with_labels(delay=0.05).kiq("delayed")
        await until(lambda: all_wait(operator), "both wait in the stream")
        assert ran == ["before"]
        assert (await operator.figures()).paused
        await operator.resume()
        await until(lambda: sorted(ran) == ["before", "delayed", "while"], "both run", limit=5)
        await until(lambda: settled(broker), "nothing is left")
    assert not (await operator.figures()).paused


async def test_a_worker_that_starts_during_a_pause_takes_nothing_before_it_has_looked(
    broker: TimerBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    look_now = asyncio.Event()
    promote = Shard.promote

    async def slow_look(shard: Shard, limit: int) -> Promotion:
        await look_now.wait()
        return await promote(shard, limit)

    @broker.task("note")
    async def note(what: str) -> None:
        ran.append(what)

    [shard] = broker.shards
    await shard.make_groups()
    await broker.pause()
    await note.kiq("waits")
    monkeypatch.setattr(Shard, "promote", slow_look)
    async with working(broker) as worker:
        await until(lambda: listens(broker), "the worker listens for wake-ups")
        assert not worker._consumer._held
        look_now.set()
        await until(lambda: worker._consumer.paused, "the worker obeys")
        assert ((await broker.figures()).waiting, ran) == (1, [])
        await broker.resume()
        await until(lambda: done(broker, completed=1), "it runs")


async def listens(broker: TimerBroker) -> bool:
    clients: Any = await broker.shards[0]._commands.client_list()
    return any(client["cmd"] == "xread" and "b" in client["flags"] for client in clients)


async def test_a_pause_also_holds_what_was_read_already(broker: TimerBroker) -> None:
    """Both priorities are read into one free slot; what lost the race for it waits in the worker."""
    ran: list[str] = []
    release = asyncio.Event()

    @broker.task("work")
    async def work(what: str) -> None:
        ran.append(what)
        await release.wait()

    async with working(broker, concurrency=1) as worker:
        await broker.kick_many(broker.encode(work, p, labels={"priority": p}) for p in broker.priorities)
        await until(lambda: len(ran) == 1, "one runs")
        await broker.pause()
        await until(lambda: worker._consumer.paused, "the worker obeys", limit=1.0)
        release.set()
        await until(lambda: done(broker, completed=1), "it ends")
        assert len(ran) == 1
        await broker.resume()
        await until(lambda: len(ran) == 2, "the other runs", limit=5)
        await until(lambda: settled(broker), "nothing is left")


async def all_wait(broker: TimerBroker) -> bool:
    figures = await broker.figures()
    return (figures.waiting, figures.active, figures.delayed) == (2, 0, 0)


async def test_stopping_finishes_what_runs_and_gives_back_the_rest(make_broker: MakeBroker) -> None:
    first, second = make_broker(lease=30.0), make_broker(lease=30.0)
    begun: list[tuple[str, str]] = []
    ended: list[tuple[str, str]] = []
    release = asyncio.Event()

    def with_task(broker: TimerBroker, name: str) -> TimerBroker:
        @broker.task("work")
        async def work(what: str) -> None:
            begun.append((name, what))
            await (
                release.wait() if what == "quick" else asyncio.Event().wait() if name == "first" else asyncio.sleep(0)
            )
            ended.append((name, what))

        return broker

    work = with_task(first, "first").find_task("work")
    assert work is not None
    with_task(second, "second")
    stop = asyncio.Event()
    running = asyncio.create_task(Worker(first, grace=0.5).run(stop))
    await first.kick_many([first.encode(work, "quick"), first.encode(work, "endless")])
    await until(lambda: len(begun) == 2, "both begin")
    stop.set()
    release.set()
    await asyncio.wait_for(running, 10)
    assert ended == [("first", "quick")]
    async with working(second):
        # Given back: taken at once, not when the lease of 30 s ends.
        await until(lambda: ("second", "endless") in ended, "somebody else does it", limit=5)
        await until(lambda: settled(second), "nothing is left")
    assert len(begun) == 3


async def test_a_long_task_keeps_its_lease(make_broker: MakeBroker) -> None:
    """Longer than two leases, with a second worker that looks for abandoned entries: still one run."""
    lease = within(0.4)  # both workers share this loop: one that stands still for a lease lets the other have what runs
    brokers = [make_broker(lease=lease), make_broker(lease=lease)]
    runs = 0
    for broker in brokers:

        @broker.task("long")
        async def long() -> None:
            nonlocal runs
            runs += 1
            await asyncio.sleep(2.5 * lease)

    async with working(brokers[0]), working(brokers[1]):
        await brokers[0].kick(brokers[0].encode(brokers[0].find_task("long")))  # type: ignore[arg-type]
        await until(lambda: done(brokers[0], completed=1), "it is done")
    assert runs == 1


async def test_a_full_queue_refuses_and_says_so(make_broker: MakeBroker) -> None:
    broker = make_broker(max_waiting=3)

    @broker.task("x")
    async def x() -> None: ...

    for _ in range(3):
        await x.kiq()
    with pytest.raises(SendTaskError) as refused:
        await x.kiq()
    assert isinstance(refused.value.__cause__, QueueFull)
    await x.kicker().with_labels(priority="critical").kiq()
    with pytest.raises(QueueFull):
        await broker.kick_many([broker.encode(x)])
    async with working(broker):
        await until(lambda: done(broker, completed=4), "room again")
    await x.kiq()


async def test_plain_functions_and_dependencies_work(broker: TimerBroker) -> None:
    seen: list[Any] = []

    def dependency() -> str:
        return "given"

    @broker.task("plain")
    def plain(number: int, given: Annotated[str, TaskiqDepends(dependency)] = "") -> None:
        seen.append((number, given))

    async with working(broker):
        await plain.kiq("5")  # type: ignore[arg-type]
        await until(lambda: seen == [(5, "given")], "it runs, its argument parsed")


async def test_metrics_show_what_this_process_did(make_broker: MakeBroker, queue: str) -> None:
    registry = CollectorRegistry()
    metrics = TimerMetrics(registry, queue)
    broker = make_broker(metrics=metrics, backoff=BackoffMiddleware(2, base=0.01, cap=0.01))
    metrics.for_queue("other").executed.inc()

    @broker.task("good")
    async def good() -> None: ...

    @broker.task("bad")
    async def bad() -> None:
        raise ValueError

    async with working(broker):
        await good.kicker().schedule_by_time(TimerSource(broker), in_seconds(0.05))
        await bad.kiq()
        await until(lambda: done(broker, 1, 2), "all are settled")

    def value(name: str) -> float | None:
        return registry.get_sample_value(name, {"queue": queue})

    assert value("timers_executed_total") == 1
    assert value("timers_failed_total") == 1
    assert value("timers_dead_total") == 1
    assert value("timers_promoted_total") == 2
    assert value("timers_lateness_seconds_count") == 2
    assert registry.get_sample_value("timers_executed_total", {"queue": "other"}) == 1


async def test_consumers_do_not_pile_up(make_broker: MakeBroker) -> None:
    broker = make_broker()
    [shard] = broker.shards
    await shard.make_groups()
    await shard.send([("normal", b"x")], 0)
    # One that read something: Redis 7.0 remembers no other.
    [delivery] = await shard.read("normal", "long gone", 1, 0.001)
    delivery.outcome = DONE
    await shard.settle([delivery])

    async def gone() -> bool:
        return await shard.tidy(0.05) == 1

    await until(gone, "the silent consumer is forgotten")
    async with working(broker):
        pass
    assert await shard._commands.xinfo_consumers(shard.streams["normal"], "workers") == []
