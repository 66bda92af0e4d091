"""Timers as copies of rows: what the owner of the rows may rely on."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tocsin_stack.valkey import Valkey
from tocsin_timers import Chunk, DeadLetter, Timer, TimerBroker, TimerMirror, mirror
from tocsin_timers.mirror import MOST_WAITING

from tests.timers.conftest import MakeBroker
from tests.timers.support import server, tasks, until, working

CHUNK = 3
DAY = timedelta(days=1)


class Rows:
    """A record in memory whose clock is a day ahead of everybody's."""

    def __init__(self, broker: TimerBroker) -> None:
        self.broker = broker
        self.ran: list[str] = []
        self.due: dict[str, datetime] = {}
        self.is_paused = False
        self.letters: list[DeadLetter] = []
        self.error: Exception | None = None
        self.available: list[float] = []
        self.dropped = 0.0

        @broker.task("remind")
        async def remind(name: str) -> None:
            self.ran.append(name)

        self._task = remind
        self.mirror = TimerMirror(broker, self, available=self.available.append, dropped=self.drop)

    @property
    def now(self) -> datetime:
        return datetime.now(UTC) + DAY

    def drop(self, number: float) -> None:
        self.dropped += number

    def add(self, name: str, seconds: float) -> None:
        self.due[name] = self.now + timedelta(seconds=seconds)

    def copy(self, name: str) -> Timer:
        return Timer(name, self.due[name], self.broker.encode(self._task, name, task_id=""))

    def arm(self, *names: str) -> None:
        self.mirror.arm(map(self.copy, names), self.now)

    async def later(self, after: Any) -> Chunk:
        names = sorted(self.due, key=lambda name: self.due[name])
        start = after or 0
        part = names[start : start + CHUNK]
        return Chunk(map(self.copy, part), len(part), self.now, start + CHUNK if len(part) == CHUNK else None)

    async def paused(self) -> bool:
        return self.is_paused

    async def dead(self, letters: Sequence[DeadLetter]) -> None:
        if self.error is not None:
            raise self.error
        self.letters += letters

    async def has(self, number: int) -> bool:
        return (await self.broker.figures()).delayed == number


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[Valkey]:
    """A server that a test may empty and kill."""
    async with server(tmp_path / "own") as running:
        yield running


@pytest.fixture
def rows(broker: TimerBroker) -> Rows:
    return Rows(broker)


async def test_due_times_are_by_the_clock_of_the_record(rows: Rows) -> None:
    rows.add("soon", 0.1)
    rows.add("late", 60)
    async with working(rows.broker):
        rows.arm("soon", "late")
        await until(lambda: rows.ran == ["soon"], "what is due fires")
        assert await rows.has(1)


async def test_the_last_word_counts(rows: Rows) -> None:
    for name in ("moved", "taken out", "put back"):
        rows.add(name, 60)
    rows.arm("moved", "taken out", "put back")
    rows.mirror.disarm(["taken out", "put back"])
    rows.add("moved", 0.01)
    rows.arm("moved", "put back")
    await until(lambda: rows.has(2), "two are armed")
    async with working(rows.broker):
        await until(lambda: rows.ran == ["moved"], "the moved one fires")
    rows.mirror.disarm(["put back"])
    await until(lambda: rows.has(0), "it is taken out")


async def test_what_waits_is_bounded_and_what_is_dropped_is_told(rows: Rows) -> None:
    rows.add("x", 60)
    copy = rows.copy("x")
    rows.mirror.arm((copy._replace(id=str(number)) for number in range(MOST_WAITING + 5)), rows.now)
    rows.mirror.arm([copy._replace(id="0")], rows.now)  # one that waits already may be moved
    assert rows.dropped == 5
    await until(lambda: rows.has(MOST_WAITING), "the rest is armed")


async def test_a_redis_that_forgot_is_filled_in_chunks(own: Valkey, make_broker: MakeBroker) -> None:
    rows = Rows(make_broker(own.url))
    for number in range(2 * CHUNK):
        rows.add(str(number), 60 + number)
    for _ in range(2):
        await rows.mirror.watch()
        assert await rows.has(2 * CHUNK)
        await rows.broker.shards[0]._commands.flushall()
        assert await rows.has(0)
    await rows.mirror.watch()
    assert await rows.has(2 * CHUNK)
    assert rows.available == [1, 1, 1]


async def test_a_chunk_that_waited_for_the_one_before_it_is_not_late(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = mirror._process_clock
    late = timedelta()
    for number in range(CHUNK + 1):
        rows.add(str(number), 1800 + number)

    def slowly(name: str) -> Timer:
        nonlocal late
        late = timedelta(hours=1)  # the first chunk takes an hour to be armed; the second was read before
        return copy(name)

    copy = rows.copy
    monkeypatch.setattr(rows, "copy", slowly)
    monkeypatch.setattr(mirror, "_process_clock", lambda: clock() + late)
    await rows.mirror.fill()
    async with working(rows.broker):
        await until(lambda: str(CHUNK) in rows.ran, "what was due within the hour fires")


async def test_without_redis_the_owner_is_told_and_goes_on(
    own: Valkey, make_broker: MakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    rows = Rows(make_broker(own.url))
    rows.add("x", 60)
    await rows.mirror.watch()
    own.kill()
    with caplog.at_level(logging.INFO, "tocsin_timers.mirror"):
        await rows.mirror.watch()
        rows.arm("x")
        await until(lambda: rows.dropped == 1, "it could not be armed")
        await rows.mirror.watch()
        assert rows.available == [1, 0, 0, 0]
        await own.start()
        await rows.mirror.watch()
    assert rows.available[-1] == 1
    told = [record.message for record in caplog.records if "available" in record.message]
    assert len(told) == 2, "one line when it goes and one when it comes"


async def test_a_look_tells_what_redis_holds_and_whether_it_stores(own: Valkey, make_broker: MakeBroker) -> None:
    rows = Rows(make_broker(own.url))
    rows.add("x", 60)
    await rows.mirror.fill()
    figures, stores = await rows.mirror.look()
    assert figures is not None
    assert (figures.delayed, stores) == (1, True)
    await rows.broker.shards[0]._commands.execute_command("REPLICAOF", "127.0.0.1", "1")
    figures, stores = await rows.mirror.look()
    assert figures is not None
    assert not stores
    own.kill()
    assert await rows.mirror.look() == (None, False)


async def test_the_pause_of_the_record_holds_in_a_redis_that_forgot_it(own: Valkey, make_broker: MakeBroker) -> None:
    rows = Rows(make_broker(own.url))
    rows.is_paused = True
    await rows.mirror.watch()
    assert await rows.broker.is_paused()
    await rows.broker.shards[0]._commands.flushall()
    await rows.mirror.watch()
    assert await rows.broker.is_paused()
    rows.is_paused = False
    await rows.mirror.watch()
    assert not await rows.broker.is_paused()


async def test_dead_letters_are_removed_once_the_record_has_them(rows: Rows) -> None:
    rows.add("x", 0)
    await rows.broker.bury(rows.broker.encode(rows._task, "x"), "broken")
    rows.error = RuntimeError("the record is away")
    with pytest.raises(RuntimeError):
        await rows.mirror.watch()
    assert (await rows.broker.figures()).dead == 1
    rows.error = None
    await rows.mirror.watch()
    assert (await rows.broker.figures()).dead == 0
    assert [letter.reason for letter in rows.letters] == ["broken"]


async def test_closing_sends_what_waits(rows: Rows) -> None:
    rows.add("x", 60)
    rows.arm("x")
    await rows.mirror.close()
    assert await rows.has(1)


async def test_closing_does_not_wait_long_for_a_redis_that_hangs(own: Valkey, make_broker: MakeBroker) -> None:
    rows = Rows(make_broker(own.url, command_timeout=60.0))
    await rows.mirror.watch()
    before = tasks()
    rows.add("x", 60)
    own.pause()
    try:
        rows.arm("x")
        async with asyncio.timeout(20):
            await rows.mirror.close()
            await until(lambda: not tasks() - before, "nothing goes on")
    finally:
        own.resume()
