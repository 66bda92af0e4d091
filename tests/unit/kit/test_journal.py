"""The journal of a queue without Redis: what one replica knows by itself, and what is bounded."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tocsin.queue.v1 import task_pb2 as pb
from tocsin_kit.tasks import journal as journal_module
from tocsin_kit.tasks.journal import KEPT, MOST_MINUTES, Journal, Minute, Noted, spread
from tocsin_kit.tasks.watch import Watch

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class Away:
    """Redis does not answer."""

    calls = 0

    async def execute_command(self, *args: Any) -> Any:
        self.calls += 1
        raise ConnectionError("away")


class Remembers:
    """Redis, as far as keys go; `sent` is what scripts were given."""

    def __init__(self) -> None:
        self.keys = set[str]()
        self.sent: list[tuple[Any, ...]] = []

    async def execute_command(self, *args: Any) -> Any:
        match args:
            case ("EVAL", _, 1, key, epoch, _):
                self.keys.add(key)
                return epoch
            case ("EXISTS", key):
                return int(key in self.keys)
            case ("EVAL", _, number, *rest):
                self.sent.append(tuple(rest[number:]))
        return None


@pytest.fixture
def journal() -> Journal:
    return Journal("mail", Away(), (OSError,))


def noted(kind: "pb.TaskChangeKind.ValueType", *, after: float = 0.0, **fields: Any) -> Noted:
    return Noted(kind, "letters", uuid.uuid4(), "acme", NOON + timedelta(seconds=after), **fields)


async def test_the_newest_are_kept_and_no_more(journal: Journal) -> None:
    for number in range(KEPT + 20):
        journal.note(noted(pb.TASK_CHANGE_KIND_COMPLETED, after=number, summary=str(number)))
        if number % 100 == 0:
            await journal.send()
    journal.note(noted(pb.TASK_CHANGE_KIND_RETRIED, error="no answer", attempts=2, seconds=0.5))
    await journal.send()
    done, partial = await journal.newest(failed=False)
    assert partial
    assert [change.task.summary for _, change in done] == [str(number) for number in range(KEPT + 19, 19, -1)]
    behind, _ = await journal.newest(failed=False, before=done[9][0])
    assert behind == done[10:]
    [(_, failed)], _ = await journal.newest(failed=True)
    assert (failed.task.state, failed.task.error, failed.task.attempts) == (pb.TASK_STATE_FAILED, "no answer", 2)
    assert failed.task.duration.ToTimedelta() == timedelta(milliseconds=500)
    assert failed.task.finish_time.ToDatetime(UTC) == NOON


async def test_as_many_are_kept_as_was_chosen(journal: Journal) -> None:
    for number in range(9):
        journal.note(noted(pb.TASK_CHANGE_KIND_COMPLETED, after=number, summary=str(number)))
        journal.note(noted(pb.TASK_CHANGE_KIND_DEAD, after=number))
    await journal.send()
    journal.keep(3, 0)
    for number in (9, 10):
        journal.note(noted(pb.TASK_CHANGE_KIND_COMPLETED, after=number, summary=str(number)))
        journal.note(noted(pb.TASK_CHANGE_KIND_DEAD, after=number))
    await journal.send()
    assert [change.task.summary for _, change in (await journal.newest(failed=False))[0]] == ["10", "9", "8"]
    assert (await journal.newest(failed=True))[0] == []


async def test_added_and_begun_tasks_are_sent_while_there_is_a_watcher() -> None:
    redis = Remembers()
    journal = Journal("mail", redis, (OSError,))

    async def sent() -> int:
        for kind in (pb.TASK_CHANGE_KIND_ADDED, pb.TASK_CHANGE_KIND_ACTIVE, pb.TASK_CHANGE_KIND_COMPLETED):
            journal.note(noted(kind))
        await journal.send()
        return sum(isinstance(each, bytes) for each in redis.sent[-1])

    assert await sent() == 1
    other_replica = Journal("mail", redis, (OSError,))
    await Watch(other_replica).begin()
    assert await sent() == 3


async def test_thousands_of_changes_let_everything_else_go_on() -> None:
    """A turn by the clock (`Turns`) has room for all of them, and a call that takes ten runs of the loop would wait for it."""
    journal = Journal("mail", Remembers(), (OSError,))
    for _ in range(3200):
        journal.note(noted(pb.TASK_CHANGE_KIND_COMPLETED))
    sending, turns = asyncio.create_task(journal.send()), 0
    while not sending.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 100


async def test_a_watch_tells_what_happens_after_it_began(journal: Journal) -> None:
    journal.note(noted(pb.TASK_CHANGE_KIND_ADDED))
    await journal.send()
    watch = Watch(journal)
    await watch.begin()
    assert await watch.more() == ([], True, False)
    kinds = [pb.TASK_CHANGE_KIND_ADDED, pb.TASK_CHANGE_KIND_ACTIVE, pb.TASK_CHANGE_KIND_STALLED]
    for kind in kinds:
        journal.note(noted(kind))
    await journal.send()
    changes, partial, _ = await watch.more()
    assert ([change.kind for change in changes], partial) == (kinds, True)
    assert await watch.more() == ([], True, False)


async def test_minutes_are_counted_and_old_ones_are_forgotten(journal: Journal) -> None:
    for minute in range(MOST_MINUTES + 5):
        journal.note(noted(pb.TASK_CHANGE_KIND_DEAD, after=60 * minute, seconds=0.1, late=2.0))
        await journal.send()
    assert len(journal._minutes) == MOST_MINUTES
    now = NOON + timedelta(minutes=MOST_MINUTES + 4, seconds=30)
    minutes, partial = await journal.minutes(now, 3)
    assert partial
    assert [each.start_time for each in minutes] == [
        now.replace(second=0) - timedelta(minutes=ago) for ago in (2, 1, 0)
    ]
    assert [each.counts["dead"] for each in minutes] == [1, 1, 1]
    count, (p50, *_, highest) = spread(minutes, "l")
    assert count == 3
    assert p50 == highest
    assert timedelta(seconds=2) <= highest <= timedelta(seconds=2 * 1.2)


async def test_without_news_redis_is_not_asked(journal: Journal) -> None:
    await journal.send()
    assert isinstance(journal._redis, Away)
    assert journal._redis.calls == 0


@pytest.mark.parametrize("seconds", [0.0, 0.001, 0.0011, 0.5, 3600.0])
def test_a_class_is_at_most_a_fifth_above_its_values(seconds: float) -> None:
    minute = Minute(NOON, {f"d{journal_module._class(seconds)}": 7})
    count, quantiles = spread([minute], "d")
    assert count == 7
    assert set(quantiles) == {quantiles[0]}
    assert max(seconds, 0.001) <= quantiles[0].total_seconds() + 1e-6
    assert quantiles[0].total_seconds() <= max(seconds, 0.001) * 1.21


def test_nothing_has_no_spread() -> None:
    assert spread([Minute(NOON, {"completed": 3})], "d") == (0, ())
