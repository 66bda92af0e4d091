"""Escalation's timers in a real Redis: copies of rows, so each fault there is left to the sweep and tidied up."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_INFO, Severity
from tocsin_escalation.domain.events import TimerFired
from tocsin_escalation.metrics import EscalationMetrics
from tocsin_escalation.store.incidents.timers import LiveTimer
from tocsin_escalation.work.change_hints import BLOCK_SECONDS, ChangeHints
from tocsin_escalation.work.mirrored_timers import MirroredTimers
from tocsin_escalation.work.page_sender import MOST_IN_SET, PATIENCE, PageSender, sets_of
from tocsin_escalation.work.tasks import NOTIFY_QUEUE, QUEUE, consume_with, register
from tocsin_kit.errors import TocsinError
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import within
from tocsin_timers import QueueFigures, TimerBroker, Worker
from tocsin_timers.connections import Connections

from tests.store.escalation.recorders import Desk


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Valkey]:
    server = Valkey(tmp_path / "valkey", appendonly=False)
    await server.start()
    yield server
    await server.stop()


class Timers:
    """Escalation's side of Redis, with a `fire` of the test."""

    def __init__(self, valkey: Valkey, desk: Desk) -> None:
        # A patient time-out: a busy machine is not what these tests look for.
        self.broker = TimerBroker(valkey.url, QUEUE, command_timeout=5.0)
        self.fired: list[tuple[UUID, TimerFired]] = []
        self.error: Exception | None = None
        self.registry = CollectorRegistry()
        metrics = EscalationMetrics(self.registry)
        consume_with(self.broker, self)  # type: ignore[arg-type]
        self.timers = MirroredTimers(desk.db, self.broker, register(self.broker), metrics)
        self.mirror = self.timers.mirror

    async def fire(self, incident_id: UUID, event: TimerFired) -> None:
        self.fired.append((incident_id, event))
        if self.error is not None:
            raise self.error

    async def figures(self, wanted: str, number: int) -> QueueFigures:
        """The figures, once the one that is wanted has that value."""
        deadline = time.monotonic() + within(10)
        while getattr(figures := await self.broker.figures(), wanted) != number:
            assert time.monotonic() < deadline, figures
            await asyncio.sleep(0.01)
        return figures


async def test_while_postgresql_is_away_a_timer_is_left_to_the_sweep(redis: Valkey, desk: Desk) -> None:
    timers = Timers(redis, desk)
    timers.error = TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "the database is away")
    now = datetime.now(UTC)
    timer = LiveTimer(uuid4(), uuid4(), 3, now + timedelta(seconds=0.1), True)
    stop = asyncio.Event()
    working = asyncio.create_task(Worker(timers.broker).run(stop))
    timers.timers.arm([timer], now)
    figures = await timers.figures("completed", 1)
    stop.set()
    await working
    assert timers.fired == [(timer.incident_id, TimerFired(timer.timer_id, 3))]
    assert (figures.failed, figures.dead, figures.delayed) == (0, 0, 0)


async def test_what_the_stream_gave_up_does_not_lie_there_for_ever(redis: Valkey, desk: Desk) -> None:
    timers = Timers(redis, desk)
    other = TimerBroker(redis.url, QUEUE, command_timeout=5.0)

    @other.task("from.a.newer.version")
    async def newer() -> None: ...

    await other.kick_many(other.encode(newer) for _ in range(3))
    stop = asyncio.Event()
    working = asyncio.create_task(Worker(timers.broker).run(stop))
    await timers.figures("dead", 3)
    await timers.mirror.watch()
    assert (await timers.figures("dead", 0)).waiting == 0
    stop.set()
    await working
    await other.shutdown()


async def test_an_empty_redis_is_filled_from_the_rows(redis: Valkey, desk: Desk) -> None:
    timers = Timers(redis, desk)
    incidents = [await desk.opens() for _ in range(3)]
    for _ in range(2):
        await timers.mirror.watch()
        assert (await timers.broker.figures()).delayed == len(incidents)
        await timers.broker.shards[0]._commands.flushall()
    await timers.mirror.watch()
    assert (await timers.broker.figures()).delayed == len(incidents)
    await timers.broker.shutdown()


async def test_a_redis_that_stores_nothing_is_told_to_be_unavailable(redis: Valkey, desk: Desk) -> None:
    timers = Timers(redis, desk)
    client = timers.broker.shards[0]._commands

    async def told() -> float | None:
        await timers.mirror.watch()
        return timers.registry.get_sample_value("tocsin_escalation_redis_available")

    assert await told() == 1
    await client.execute_command("CONFIG", "SET", "maxmemory", "1")
    assert await told() == 0
    await client.execute_command("CONFIG", "SET", "maxmemory", "0")
    assert await told() == 1
    await timers.broker.shutdown()


async def test_pages_go_by_rpc_while_redis_hangs_and_the_process_learns_of_it(redis: Valkey) -> None:
    queue = TimerBroker(redis.url, NOTIFY_QUEUE, command_timeout=4 * PATIENCE)
    notify = Notify(lambda: queue.circuit is not None and queue.circuit.is_open())
    sender = PageSender(queue, notify)  # type: ignore[arg-type]
    stop = asyncio.Event()
    running = asyncio.create_task(sender.run(stop))
    assert queue.circuit is not None
    redis.pause()
    try:
        sender.page([NotificationJob(page="pages/first")])
        await asyncio.wait_for(notify.submitted.wait(), within(20))
        assert notify.redis_was_away == [False], "the page waited for the time-out"
        async with asyncio.timeout(within(20)):
            while not queue.circuit.is_open():
                await asyncio.sleep(0.01)
        notify.submitted.clear()
        sender.page([NotificationJob(page="pages/second")])
        await asyncio.wait_for(notify.submitted.wait(), within(20))
    finally:
        redis.resume()
        stop.set()
        await running
        await queue.shutdown()
    assert [job.page for job in notify.jobs] == ["pages/first", "pages/second"]


def test_pages_of_one_tenant_and_stream_travel_together_cut_by_number_and_bytes() -> None:
    def job(number: int, org: str, severity: Severity.ValueType, title: str = "") -> NotificationJob:
        return NotificationJob(page=f"pages/{number}", org_id=org, severity=severity, title=title)

    mixed = [job(0, "a", SEVERITY_CRITICAL), job(1, "b", SEVERITY_CRITICAL), job(2, "a", SEVERITY_INFO)]
    mixed.append(job(3, "a", SEVERITY_CRITICAL))
    assert [[each.page for each in given] for given in sets_of(mixed)] == [
        ["pages/0", "pages/3"],
        ["pages/1"],
        ["pages/2"],
    ]
    many = [job(number, "a", SEVERITY_INFO) for number in range(2 * MOST_IN_SET + 1)]
    assert [len(given) for given in sets_of(many)] == [MOST_IN_SET, MOST_IN_SET, 1]
    assert [each for given in sets_of(many) for each in given] == many
    large = [job(number, "a", SEVERITY_INFO, "x" * 200_000) for number in range(2)]
    huge = job(2, "a", SEVERITY_INFO, "x" * 300_000)
    assert [len(given) for given in sets_of([*large, huge])] == [1, 1, 1]
    assert list(sets_of([])) == []


class Notify:
    """Keeps what is submitted by RPC, and whether Redis was known to be away by then."""

    def __init__(self, redis_is_away: Callable[[], bool]) -> None:
        self._redis_is_away = redis_is_away
        self.redis_was_away: list[bool] = []
        self.jobs: list[NotificationJob] = []
        self.submitted = asyncio.Event()

    async def submit(self, jobs: Sequence[NotificationJob]) -> None:
        self.jobs += jobs
        self.redis_was_away.append(self._redis_is_away())
        self.submitted.set()


class HeardFeeds:
    """Readers that only note what they hear."""

    def __init__(self) -> None:
        self.heard: set[str] = set()

    def changed(self, org_ids: Collection[str]) -> None:
        self.heard.update(org_ids)


async def test_a_change_is_told_to_the_other_replicas(redis: Valkey) -> None:
    stop = asyncio.Event()
    links = [Connections.from_url(redis.url, command_timeout=5.0, block=BLOCK_SECONDS) for _ in range(2)]
    feeds = [HeardFeeds() for _ in links]
    here, there = (ChangeHints(each, link) for each, link in zip(feeds, links, strict=True))  # type: ignore[arg-type]
    loops = [asyncio.create_task(loop(stop)) for loop in (here.tell, there.hear)]
    async with asyncio.timeout(within(30)):
        number = 0
        while not feeds[1].heard:  # who listens hears nothing of what was told before
            here.changed({f"org-{number}"})
            number += 1
            await asyncio.sleep(0.02)
    assert feeds[1].heard <= feeds[0].heard
    stop.set()
    await asyncio.gather(*loops)
    for link in links:
        await link.close()
