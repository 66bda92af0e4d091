"""A watch goes on where another one ended, and says when changes may be missing."""

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from tocsin.queue.v1 import task_pb2 as pb
from tocsin_kit import wall_clock
from tocsin_kit.tasks import journal as journal_module
from tocsin_kit.tasks.journal import KEPT, Journal, Noted
from tocsin_kit.tasks.watch import Watch

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DONE = pb.TASK_CHANGE_KIND_COMPLETED
ADDED = pb.TASK_CHANGE_KIND_ADDED


class Redis:
    """As far as a journal needs it."""

    def __init__(self) -> None:
        self.away = False
        self.empty()

    def empty(self) -> None:
        self.streams: dict[str, list[tuple[bytes, list[bytes]]]] = {}
        self.epochs: dict[str, bytes] = {}
        self.serial = getattr(self, "serial", 0)

    async def execute_command(self, *args: Any) -> Any:
        if self.away:
            raise ConnectionError("away")
        match args:
            case ("EXISTS", key):
                return int(key in self.epochs)
            case ("EVAL", _, 1, key, epoch, _):
                return self.epochs.setdefault(key, str(epoch).encode())
            case ("EVAL", _, _, *rest):
                self._sends(
                    [str(each) for each in rest[:3]], list(rest[rest.index(journal_module._SECONDS_KEPT) + 1 :])
                )
                return None
            case ("XREVRANGE", key, *_):
                return self.streams.get(key, [])[::-1]
            case ("XRANGE", key, first, "+", "COUNT", count):
                rows = self.streams.get(key, [])
                return [row for row in rows if self._place(row[0]) >= self._place(str(first).encode())][:count]
        raise AssertionError(args)

    def _sends(self, keys: list[str], rest: list[Any]) -> None:
        for key in keys:
            kept, count, *rest = rest
            sent, rest = rest[:count], rest[count:]
            for each in sent:
                self.serial += 1
                self.streams.setdefault(key, []).append((f"{self.serial}-0".encode(), [b"c", each]))
            if sent:
                self.streams[key] = self.streams[key][-kept:] if kept else []

    @staticmethod
    def _place(id: bytes) -> int:
        return int(id.partition(b"-")[0])


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def one(redis: Redis) -> Journal:
    return Journal("mail", redis, (OSError,))


@pytest.fixture
def other(redis: Redis) -> Journal:
    return Journal("mail", redis, (OSError,))


async def happens(journal: Journal, *texts: str, kind: "pb.TaskChangeKind.ValueType" = DONE) -> None:
    for text in texts:
        journal.note(Noted(kind, "letters", uuid.uuid4(), "acme", NOON, summary=text))
    await journal.send()


async def told(watch: Watch) -> list[str]:
    """What it tells; nothing was missed."""
    news = await watch.more()
    assert (news.partial, news.missed) == (False, False)
    return [change.task.summary for change in news.changes]


async def resumed(watch: Watch, journal: Journal) -> tuple[Watch, bool]:
    """Another watch in its place, and whether it has missed something."""
    following = Watch(journal)
    return following, await following.begin(watch.place)


async def begun(journal: Journal) -> Watch:
    watch = Watch(journal)
    assert not await watch.begin()
    return watch


async def test_it_goes_on_at_another_replica_without_loss_or_repetition(one: Journal, other: Journal) -> None:
    await happens(one, "before")
    watch = await begun(one)
    await happens(other, "first")
    assert await told(watch) == ["first"]
    assert await told(watch) == []
    await happens(one, "added", kind=ADDED)
    await happens(other, "second", "third")
    following, missed = await resumed(watch, other)
    assert not missed
    assert sorted(await told(following)) == ["added", "second", "third"]
    assert await told(following) == []
    again, missed = await resumed(following, one)
    assert not missed
    assert await told(again) == []


async def test_one_that_began_while_nothing_had_happened_goes_on(one: Journal) -> None:
    watch = await begun(one)
    await happens(one, "first")
    following, missed = await resumed(watch, one)
    assert not missed
    assert await told(following) == ["first"]


async def test_an_emptied_redis_is_told(one: Journal, redis: Redis) -> None:
    await happens(one, "before")
    watch = await begun(one)
    redis.empty()
    _, missed = await resumed(watch, one)
    assert missed
    # One that stays finds out by itself, and is told what comes.
    news = await watch.more()
    assert (list(news.changes), news.missed) == ([], False), "its stream is gone, which may be its age"
    await happens(one, "after")
    news = await watch.more()
    assert ([each.task.summary for each in news.changes], news.missed) == (["after"], True)
    assert await told(watch) == []


async def test_a_place_that_has_gone_from_its_stream_is_told(one: Journal) -> None:
    await happens(one, "before")
    watch = await begun(one)
    for number in range(KEPT // 100 + 1):
        await happens(one, *(str(number) for _ in range(100)))
    following, missed = await resumed(watch, one)
    assert not missed, "it is seen when the changes are read"
    news = await following.more()
    assert (len(news.changes), news.missed) == (KEPT, True)
    assert await told(following) == []


async def test_more_than_is_sent_at_once_is_told(one: Journal) -> None:
    watch = await begun(one)
    await happens(one, *map(str, range(journal_module._MOST_SENT + 1)))
    news = await watch.more()
    assert (len(news.changes), news.missed) == (journal_module._MOST_SENT, True)
    assert await told(watch) == []


async def test_a_time_without_redis_is_told_when_it_is_over(one: Journal, other: Journal, redis: Redis) -> None:
    watch = await begun(one)
    redis.away = True
    await happens(one, "mine")
    await happens(other, "theirs")
    news = await watch.more()
    assert ([each.task.summary for each in news.changes], news.partial, news.missed) == (["mine"], True, False)
    place = watch.place
    redis.away = False
    following = Watch(other)
    assert await following.begin(place), "whoever goes on from there may have missed something"
    news = await watch.more()
    assert (list(news.changes), news.partial, news.missed) == ([], False, True)
    await happens(other, "later")
    news = await watch.more()
    assert [each.task.summary for each in news.changes] == ["later"]
    assert news.missed, "what the other replica could not send is lost"


async def test_one_that_begins_without_redis_is_not_told_what_is_old(one: Journal, redis: Redis) -> None:
    await happens(one, "before")
    redis.away = True
    watch = Watch(one)
    assert not await watch.begin()
    assert watch.place is None
    redis.away = False
    news = await watch.more()
    assert (list(news.changes), news.missed) == ([], True)
    assert await told(watch) == []


async def test_a_place_is_good_for_an_hour(one: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = await begun(one)
    place = watch.place
    assert place is not None
    monkeypatch.setattr(wall_clock, "_ahead", wall_clock._ahead + 3601)
    assert await Watch(one).begin(place)
