"""Loops stop when told and come back when they crash."""

import asyncio

import pytest
import structlog
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit import loops
from tocsin_kit.errors import TocsinError
from tocsin_kit.loops import Loops, Sweep, Waiter, backoff, retry_until, wait_for_any, wait_or_stop
from tocsin_kit.metrics import Metrics


@pytest.fixture
def stop() -> asyncio.Event:
    return asyncio.Event()


async def test_waiting_ends_with_the_stop(stop: asyncio.Event) -> None:
    assert await wait_or_stop(stop, 0.001) is False
    asyncio.get_running_loop().call_soon(stop.set)
    assert await wait_or_stop(stop, 3600) is True
    assert await wait_or_stop(stop, 3600) is True


@pytest.mark.asyncio(loop_scope="function")
async def test_waiting_for_any_ends_with_the_first() -> None:
    """It has a loop of its own: in the shared one, the libraries of other tests start tasks while this one runs."""
    stop, other = asyncio.Event(), asyncio.Event()
    assert await wait_for_any(other, stop, seconds=0.001) is False
    asyncio.get_running_loop().call_soon(other.set)
    assert await wait_for_any(other, stop) is True
    assert await wait_for_any(stop, other, seconds=0) is True
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in left if not task.cancelling()]


@pytest.mark.asyncio(loop_scope="function")
async def test_a_waiter_waits_again_for_an_event_that_was_cleared_and_leaves_no_task() -> None:
    stop, nudged = asyncio.Event(), asyncio.Event()
    with Waiter(nudged, stop) as waiter:
        for event in (nudged, stop, nudged, nudged):
            assert await waiter.wait(0.001) is False
            waiting = asyncio.create_task(waiter.wait())
            for _ in range(10):
                await asyncio.sleep(0)
            assert not waiting.done()
            event.set()
            assert await waiting is True
            event.clear()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not [task for task in left if not task.cancelling()]


class Fails:
    """Fails so often, then answers; and stops at a call if told so."""

    def __init__(self, times: int, stop: asyncio.Event, *, stop_at: int = 0) -> None:
        self.left = times
        self.calls = 0
        self._stop = stop
        self._stop_at = stop_at

    async def __call__(self) -> str:
        self.calls += 1
        if self.calls == self._stop_at:
            self._stop.set()
        if self.left:
            self.left -= 1
            raise TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "away")
        return "done"


async def test_retrying_ends_with_the_answer(stop: asyncio.Event) -> None:
    work = Fails(3, stop)
    assert await retry_until(stop, work, pause=lambda failures: failures / 10_000) == "done"
    assert work.calls == 4


async def test_what_does_not_pass_is_raised_at_once(stop: asyncio.Event) -> None:
    work = Fails(3, stop)
    with pytest.raises(TocsinError):
        await retry_until(stop, work, passing=lambda error: False)
    assert work.calls == 1


async def test_after_a_stop_it_is_tried_once_more_without_a_wait(stop: asyncio.Event) -> None:
    work = Fails(100, stop, stop_at=2)
    with pytest.raises(TocsinError):
        await retry_until(stop, work, pause=lambda failures: failures / 10_000)
    assert work.calls == 3
    answered = Fails(1, stop)
    stop.clear()
    asyncio.get_running_loop().call_soon(stop.set)
    assert await retry_until(stop, answered, pause=lambda failures: 3600) == "done"


def test_backoff_grows_to_its_cap_with_full_jitter() -> None:
    for attempt, most in ((0, 1), (1, 2), (3, 8), (5, 10), (4000, 10)):
        pauses = [backoff(attempt, base=1, cap=10) for _ in range(300)]
        assert 0 <= min(pauses) < most / 3
        assert most * 2 / 3 < max(pauses) <= most


async def test_a_crashing_loop_is_counted_and_started_anew(
    stop: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops, "_RESTART_CAP", 0.001)
    metrics, runs, steady = Metrics(), 0, asyncio.Event()

    async def crash(stopping: asyncio.Event) -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ZeroDivisionError
        if runs == 3:
            return  # ending early is as bad
        steady.set()
        await stopping.wait()

    supervised = Loops(metrics)
    supervised.add("crash", crash)
    with structlog.testing.capture_logs() as lines:
        supervised.start(stop)
        await steady.wait()
    stop.set()
    await supervised.join(5)
    assert runs == 4
    assert metrics.registry.get_sample_value("tocsin_loop_crashes_total", {"loop": "crash"}) == 2
    events = [line["event"] for line in lines if line["module"] == loops.__name__]
    assert events == ["loop_crashed", "loop_crashed", "loop_ended_early"]


async def test_a_loop_that_may_end_is_not_started_again(stop: asyncio.Event) -> None:
    runs = []

    async def once(_stop: asyncio.Event) -> None:
        runs.append(1)

    supervised = Loops(Metrics())
    supervised.add("once", once, once=True)
    supervised.start(stop)
    await supervised.join(5)
    assert runs == [1]


async def test_a_loop_that_does_not_stop_is_cancelled(stop: asyncio.Event) -> None:
    cleaned = []

    async def stubborn(_stop: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    supervised = Loops(Metrics())
    supervised.add("stubborn", stubborn)
    supervised.start(stop)
    await asyncio.sleep(0)
    stop.set()
    await supervised.join(0.01)
    assert cleaned == [True]


async def test_a_sweep_runs_at_once_and_after_each_nudge(stop: asyncio.Event) -> None:
    rounds: asyncio.Queue[int] = asyncio.Queue()

    async def work() -> None:
        rounds.put_nowait(1)

    sweep = Sweep(3600, work)
    running = asyncio.create_task(sweep(stop))
    await rounds.get()
    for _ in range(3):
        sweep.nudge()
        sweep.nudge()
        await rounds.get()
    assert rounds.empty()
    stop.set()
    await running


async def test_what_may_wait_at_first_is_done_by_a_service_that_never_lives_so_long() -> None:
    """Retention began a minute after the start: a service that was restarted every 50 s deleted nothing, for ever."""
    lives, stop = [0] * 50, asyncio.Event()

    async def live(life: int) -> None:
        async def work() -> None:
            lives[life] += 1

        await Sweep(3600, work, first=2.0)(stop)

    running = [asyncio.create_task(live(life)) for life in range(len(lives))]
    await loops.until(lambda: any(lives), seconds=1.5, step=0.01)
    stop.set()
    await asyncio.gather(*running)
    assert any(lives)


async def test_a_sweep_that_may_wait_at_first_runs_when_it_is_nudged(stop: asyncio.Event) -> None:
    rounds: asyncio.Queue[int] = asyncio.Queue()

    async def work() -> None:
        rounds.put_nowait(1)

    before = asyncio.Event()
    before.set()
    running = asyncio.create_task(Sweep(3600, work, nudged=before, first=3600)(stop))
    await rounds.get()
    stop.set()
    await running

    stop.clear()
    sweep = Sweep(3600, work, first=3600)
    running = asyncio.create_task(sweep(stop))
    for _ in range(10):
        await asyncio.sleep(0)
    assert rounds.empty()
    sweep.nudge()
    await rounds.get()
    stop.set()
    await running

    stop.clear()
    running = asyncio.create_task(Sweep(3600, work, first=0.001)(stop))
    await rounds.get()
    stop.set()
    await running


async def test_a_sweep_does_not_wait_for_its_next_turn_when_what_was_away_is_back(stop: asyncio.Event) -> None:
    tries, back = 0, asyncio.Event()

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "away")
        back.set()

    running = asyncio.create_task(Sweep(3600, work)(stop))
    async with asyncio.timeout(30):
        await back.wait()
    stop.set()
    await running
    assert tries == 4


async def test_a_sweep_waits_for_what_is_away_and_crashes_on_what_is_wrong(stop: asyncio.Event) -> None:
    failures: list[Exception] = [
        TocsinError(ErrorReason.ERROR_REASON_DATABASE_UNAVAILABLE, "away"),
        TocsinError(ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE, "away"),
        ZeroDivisionError(),
    ]

    async def work() -> None:
        raise failures.pop(0)

    with structlog.testing.capture_logs() as lines, pytest.raises(ZeroDivisionError):
        await Sweep(0.001, work)(stop)
    assert [line["event"] for line in lines if line["module"] == loops.__name__] == ["sweep_waits"]
