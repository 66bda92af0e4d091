"""The result backend of Taskiq's own Redis package, on this broker and a real server."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from taskiq import ResultGetError
from taskiq.serializers import JSONSerializer
from taskiq_redis import RedisAsyncResultBackend
from taskiq_redis.exceptions import ResultIsMissingError
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import within
from tocsin_timers import TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import in_seconds, settled, until, working

Make = Callable[..., TimerBroker]


@pytest.fixture
async def with_results(make_broker: MakeBroker, valkey: Valkey, queue: str) -> AsyncIterator[Make]:
    """A broker with the stock backend; JSON and not pickle, so that a value is data and nothing else."""
    backends: list[RedisAsyncResultBackend[Any]] = []

    def make(**options: Any) -> TimerBroker:
        settings = {"serializer": JSONSerializer(), "prefix_str": f"{queue}:results", **options}
        backends.append(RedisAsyncResultBackend(valkey.url, **settings))
        return make_broker().with_result_backend(backends[-1])

    yield make
    for backend in backends:
        await backend.shutdown()


async def test_values_and_errors_of_finished_tasks_are_kept(with_results: Make) -> None:
    broker = with_results()

    @broker.task("divide")
    async def divide(by: int) -> dict[str, float]:
        return {"quotient": 10 / by}

    async with working(broker):
        good = await (await divide.kiq(4)).wait_result(check_interval=0.01, timeout=10)
        assert (good.is_err, good.return_value) == (False, {"quotient": 2.5})
        assert good.execution_time >= 0
        # Three attempts, one result: the last one's.
        bad = await (await divide.kiq(0)).wait_result(check_interval=0.01, timeout=10)
        assert bad.is_err
        assert bad.labels["attempt"] == 3
        assert isinstance(bad.error, ZeroDivisionError)
        assert "division by zero" in str(bad.error)
        [letter] = await broker.dead_letters()
        assert letter.reason == "attempt 3 of 3: ZeroDivisionError: division by zero"
        with pytest.raises(ZeroDivisionError):
            bad.raise_for_error()


async def test_a_timer_s_result_is_found_by_the_timer_s_id_and_a_retry_s_by_the_task_s(with_results: Make) -> None:
    broker = with_results()
    source = TimerSource(broker)
    tries = 0

    @broker.task("second_time")
    async def second_time() -> str:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("once")
        return "done"

    async with working(broker):
        armed = await second_time.kicker().schedule_by_time(source, in_seconds(0.05))
        async with asyncio.timeout(within(10)):
            while not await broker.result_backend.is_result_ready(armed.schedule_id):
                await asyncio.sleep(0.01)
        assert (await broker.result_backend.get_result(armed.schedule_id)).return_value == "done"


async def test_a_result_that_is_not_kept_is_read_once(with_results: Make) -> None:
    broker = with_results(keep_results=False)

    @broker.task("one")
    async def one() -> int:
        return 1

    async with working(broker):
        sent = await one.kiq()
        assert (await sent.wait_result(check_interval=0.01, timeout=10)).return_value == 1
        with pytest.raises(ResultGetError) as caught:
            await sent.get_result()
        assert isinstance(caught.value.__cause__, ResultIsMissingError)


@pytest.mark.parametrize("life", [{"result_ex_time": 60}, {"result_px_time": 60_000}])
async def test_results_expire(with_results: Make, valkey: Valkey, queue: str, life: dict[str, int]) -> None:
    broker = with_results(**life)

    @broker.task("fail", attempts=1)
    async def fail() -> None:
        raise ValueError("no")

    async with working(broker):
        sent = await fail.kiq()
        await sent.wait_result(check_interval=0.01, timeout=10)
    raw = Redis.from_url(valkey.url, protocol=2)
    try:
        assert 50_000 < await raw.pttl(f"{queue}:results:{sent.task_id}") <= 60_000
    finally:
        await raw.aclose()


async def test_a_result_that_cannot_be_stored_does_not_run_the_task_again(with_results: Make) -> None:
    """The backend's server is away: the task is done, and only its result is lost."""
    broker = with_results()
    ran: list[str] = []
    broken: RedisAsyncResultBackend[Any] = RedisAsyncResultBackend("redis://127.0.0.1:1/0", serializer=JSONSerializer())
    broker.with_result_backend(broken)

    @broker.task("note")
    async def note(what: str) -> None:
        ran.append(what)

    async with working(broker):
        await note.kiq(uuid.uuid4().hex)
        await until(lambda: len(ran) == 1, "it runs")
        await until(lambda: settled(broker), "nothing is left")
    await broken.shutdown()
    assert len(ran) == 1
    figures = await broker.figures()
    assert (figures.completed, figures.failed, figures.dead) == (1, 0, 0)
