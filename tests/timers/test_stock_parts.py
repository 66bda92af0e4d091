"""Taskiq's own parts on top: result backends, formatters, its retry middleware, time-outs, event handlers."""

import asyncio
import itertools
import time

import pytest
from taskiq import InMemoryBroker, SmartRetryMiddleware, TaskiqEvents, TaskiqState
from taskiq.brokers.inmemory_broker import InmemoryResultBackend
from taskiq.exceptions import TaskiqResultTimeoutError
from taskiq.formatters.json_formatter import JSONFormatter
from taskiq.formatters.proxy_formatter import ProxyFormatter
from tocsin_timers import BackoffMiddleware, TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import done, in_seconds, settled, until, working


async def test_a_result_backend_holds_the_end_and_no_attempt_before_it(make_broker: MakeBroker) -> None:
    broker = make_broker().with_result_backend(InmemoryResultBackend())
    tries = 0

    @broker.task("divide")
    async def divide(by: int) -> float:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise ZeroDivisionError
        return 10 / by

    async with working(broker):
        sent = await divide.kiq(4)
        result = await sent.wait_result(check_interval=0.01, timeout=10)
        assert (result.is_err, result.return_value, tries) == (False, 2.5, 2)
        failing = await divide.kiq(0)
        result = await failing.wait_result(check_interval=0.01, timeout=10)
        assert (result.is_err, type(result.error), tries) == (True, ZeroDivisionError, 2 + 3)
        armed = await divide.kicker().schedule_by_time(TimerSource(broker), in_seconds(0.05), 5)
        timed = await broker.result_backend.get_result(await until_ready(broker, armed.schedule_id))
        assert timed.return_value == 2.0
        lost = await divide.kicker().with_labels(delay=60).kiq(1)
        with pytest.raises(TaskiqResultTimeoutError):
            await lost.wait_result(check_interval=0.01, timeout=0.05)


async def until_ready(broker: TimerBroker, task_id: str) -> str:
    async def ready() -> bool:
        return await broker.result_backend.is_result_ready(task_id)

    await until(ready, "the result is there")
    return task_id


@pytest.mark.parametrize("other", ["json", "proxy"])
async def test_other_formatters_work(make_broker: MakeBroker, other: str) -> None:
    broker = make_broker()
    broker.with_formatter(JSONFormatter() if other == "json" else ProxyFormatter(broker))
    source = TimerSource(broker)
    ran: list[tuple[str, int]] = []

    @broker.task("note", attempts=2)
    async def note(what: str, number: int = 0) -> None:
        ran.append((what, number))
        if what == "bad":
            raise ValueError

    async with working(broker):
        await note.kiq("now", number=7)
        await note.kicker().with_schedule_id("t").schedule_by_time(source, in_seconds(0.05), "timer")
        await source.arm([source.timer("b", in_seconds(0.1), note, "bulk")])
        await note.kiq("bad")
        await until(lambda: done(broker, completed=3, failed=2), "all end")
        await until(lambda: settled(broker), "nothing is left")
        [letter] = await broker.dead_letters()
        assert letter.task_name == "note"
    assert sorted(ran) == [("bad", 0), ("bad", 0), ("bulk", 0), ("now", 7), ("timer", 0)]


async def test_taskiqs_own_retry_middleware_waits_by_our_delay(make_broker: MakeBroker) -> None:
    broker = make_broker(backoff=BackoffMiddleware(attempts=1))
    # Its retries come first: what it repeats has not failed for the one behind it.
    broker.add_middlewares(SmartRetryMiddleware(default_retry_count=3, default_delay=0.2, use_jitter=False))
    at: list[float] = []

    @broker.task("flaky", retry_on_error=True)
    async def flaky() -> None:
        at.append(time.monotonic())
        if len(at) < 3:
            raise ValueError

    async with working(broker):
        await flaky.kiq()
        await until(lambda: len(at) == 3, "the third time")
        await until(lambda: settled(broker), "nothing is left")
    assert all(later - earlier > 0.19 for earlier, later in itertools.pairwise(at))
    assert (await broker.figures()).dead == 0


async def test_a_task_that_takes_too_long_is_a_failed_attempt(broker: TimerBroker) -> None:
    runs = 0

    @broker.task("slow", timeout=0.05)
    async def slow() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            await asyncio.Event().wait()

    async with working(broker):
        await slow.kiq()
        await until(lambda: done(broker, completed=1, failed=2), "the third is quick enough")


async def test_event_handlers_run_once_around_the_work(make_broker: MakeBroker) -> None:
    broker = make_broker()
    events: list[str] = []

    @broker.on_event(TaskiqEvents.WORKER_STARTUP)
    async def begin(state: TaskiqState) -> None:
        state.pool = "open"
        events.append("startup")

    @broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
    async def end(state: TaskiqState) -> None:
        events.append(f"shutdown {state.pool}")

    @broker.task("note")
    async def note() -> None:
        events.append(broker.state.pool)

    async with working(broker):
        await note.kiq()
        await until(lambda: done(broker, completed=1), "it runs")
    assert events == ["startup", "open", "shutdown open"]


async def test_tasks_can_be_tested_without_redis() -> None:
    """A project's own tests swap the broker for Taskiq's in-memory one; the backoff then says what it needs."""
    broker = InMemoryBroker()
    with pytest.raises(TypeError, match="has no dead-letter stream"):
        broker.add_middlewares(BackoffMiddleware())
