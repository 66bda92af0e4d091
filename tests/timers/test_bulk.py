"""Arming in bulk: thousands travel one after the other while the next ones are made."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError
from tocsin_timers import Timer, TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import in_seconds, server, tasks, until, working


async def test_of_one_id_in_two_thousands_the_later_wins(make_broker: MakeBroker) -> None:
    broker = make_broker(shards=2)
    source = TimerSource(broker)
    ran: list[str] = []

    @broker.task("note")
    async def note(what: str) -> None:
        ran.append(what)

    far, soon = in_seconds(3600), in_seconds(0)
    crowd = [source.timer(f"far{n}", far, note, "far") for n in range(6000)]
    moved = [source.timer("moved", far, note, "first"), *crowd, source.timer("moved", soon, note, "second")]
    assert await source.arm(moved) == 6001
    async with working(broker):
        await until(lambda: ran == ["second"], "the later one fires")


async def test_a_failed_thousand_stops_the_rest_and_leaves_no_call_behind(
    tmp_path: Path, make_broker: MakeBroker
) -> None:
    made = 0
    async with server(tmp_path / "dying") as valkey:
        broker = make_broker(valkey.url)
        source = TimerSource(broker)

        @broker.task("note")
        async def note() -> None: ...

        def timers() -> Iterator[Timer]:
            nonlocal made
            for number in range(50_000):
                made = number
                if number == 2500:
                    valkey.kill()
                yield source.timer(str(number), in_seconds(3600), note)

        before = tasks()
        with pytest.raises(RedisError):
            await source.arm(timers())
        assert made < 5000
        assert not tasks() - before
        await valkey.start()


async def test_what_cannot_be_armed_is_refused_and_the_thousand_under_way_ends(broker: TimerBroker) -> None:
    source = TimerSource(broker)

    @broker.task("note")
    async def note() -> None: ...

    good = [source.timer(str(n), in_seconds(3600), note) for n in range(1000)]
    before = tasks()
    with pytest.raises(ValueError, match="a timer's id"):
        await source.arm([*good, source.timer("", in_seconds(1), note)])
    assert not tasks() - before
    assert (await broker.figures()).delayed == 1000
