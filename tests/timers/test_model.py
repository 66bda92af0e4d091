"""Random histories of adding, moving, cancelling, firing, failing and crashing, compared with a model step by step.

The steps are the calls senders and workers make; each may be repeated, as after a lost reply. Due times are long past
or far away, so that which timers are due does not depend on when a step runs.
"""

import itertools
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tocsin_timers.delivery import DONE, Delivery, Outcome
from tocsin_timers.shard import Shard

from tests.rounds import examples
from tests.timers.conftest import MakeBroker

FAR = 1 << 52
MOST_DELIVERIES = 3
PRIORITIES = ("critical", "normal")
_queues = itertools.count()


@dataclass
class Entry:
    """A stream entry of the model."""

    timer: str
    data: bytes
    id: bytes = b""
    owner: str = ""
    deliveries: int = 0


@dataclass
class Model:
    """What Redis should hold after every step."""

    pending: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    """timer: due, priority, data"""
    unread: dict[str, list[Entry]] = field(default_factory=lambda: {priority: [] for priority in PRIORITIES})
    held: dict[str, list[Entry]] = field(default_factory=lambda: {priority: [] for priority in PRIORITIES})
    """In the order of their entry ids, as XPENDING shows them."""
    dead: list[bytes] = field(default_factory=list)
    ended: dict[bytes, int] = field(default_factory=dict)
    """How often each message was ended: never twice."""
    armed: set[bytes] = field(default_factory=set)
    dropped: set[bytes] = field(default_factory=set)
    """Cancelled, or moved before they fired."""
    retries: int = 0

    def arm(self, id: str, due: int, priority: str, data: bytes) -> None:
        if id in self.pending:
            self.dropped.add(self.pending[id][2])
        self.pending[id] = (due, priority, data)
        self.armed.add(data)

    def cancel(self, id: str) -> bool:
        if id not in self.pending:
            return False
        self.dropped.add(self.pending.pop(id)[2])
        return True

    def promote(self, limit: int) -> int:
        due = sorted((due, id) for id, (due, _, _) in self.pending.items() if due < FAR)[:limit]
        for _, id in due:
            _, priority, data = self.pending.pop(id)
            self.unread[priority].append(Entry("" if id.startswith("~") else id, data))
        return len(due)

    def end(self, priority: str, id: bytes) -> Entry | None:
        for entry in self.held[priority]:
            if entry.id == id:
                self.held[priority].remove(entry)
                self.ended[entry.data] = self.ended.get(entry.data, 0) + 1
                return entry
        return None


ids = st.sampled_from(["a", "b", "c", "d", "e"])
priorities = st.sampled_from(PRIORITIES)
consumers = st.sampled_from(["one", "two"])
dues = st.one_of(st.integers(1, 20), st.integers(1, 20), st.integers(FAR, FAR + 20))
steps = st.one_of(
    st.tuples(st.just("arm"), st.lists(st.tuples(ids, dues, priorities), min_size=1, max_size=4), st.booleans()),
    st.tuples(st.just("cancel"), st.lists(ids, min_size=1, max_size=3, unique=True), st.booleans()),
    st.tuples(st.just("promote"), st.integers(1, 5)),
    st.tuples(st.just("read"), consumers, priorities, st.integers(1, 4)),
    st.tuples(
        st.just("settle"), consumers, st.integers(0, 5), st.sampled_from(["done", "retry", "bury"]), st.booleans()
    ),
    st.tuples(st.just("promote"), st.just(10)),
    st.tuples(st.just("read"), consumers, priorities, st.just(4)),
    st.tuples(
        st.just("settle"), consumers, st.integers(0, 1), st.sampled_from(["done", "retry", "bury"]), st.booleans()
    ),
    st.tuples(st.just("settle"), consumers, st.just(0), st.sampled_from(["retry", "bury"]), st.just(True)),
    st.tuples(st.just("crash"), consumers),
    st.tuples(st.just("reclaim"), consumers, priorities, st.integers(1, 4)),
    st.tuples(st.just("give back"), consumers),
    st.tuples(
        st.just("redrive"),
    ),
)


class Run:
    """One history: every step on Redis and on the model, and what each consumer believes to hold."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard
        self.model = Model()
        self.hands: dict[str, list[Delivery]] = {"one": [], "two": []}
        self.versions = itertools.count()

    async def arm(self, timers: list[tuple[str, int, str]], repeated: bool) -> None:
        calls = []
        for id, due, priority in timers:
            data = f"{id}{next(self.versions)}".encode()
            self.model.arm(id, due, priority, data)
            calls.append((str(due), id, priority[0].encode() + data))
        for _ in range(1 + repeated):
            await self.shard.arm(calls)

    async def cancel(self, ids: list[str], repeated: bool) -> None:
        expected = [self.model.cancel(id) for id in ids]
        assert await self.shard.cancel(ids) == expected
        if repeated:
            assert await self.shard.cancel(ids) == [False] * len(ids)

    async def promote(self, limit: int) -> None:
        look = await self.shard.promote(limit)
        assert (look.promoted, look.orphans) == (self.model.promote(limit), [])

    async def read(self, consumer: str, priority: str, count: int) -> None:
        unread = self.model.unread[priority]
        if not unread:
            # Redis looks ten times a second for blocked calls that are to end: too slow here. `check` counts the waiting.
            return
        found = await self.shard.read(priority, consumer, count, 0.001)
        expected, unread[:] = unread[:count], unread[count:]
        assert [(delivery.timer, delivery.data) for delivery in found] == [(e.timer, e.data) for e in expected]
        for entry, delivery in zip(expected, found, strict=True):
            entry.id, entry.owner, entry.deliveries = delivery.entry, consumer, 1
            self.model.held[priority].append(entry)
        self.hands[consumer] += found

    async def settle(self, consumer: str, which: int, verdict: str, repeated: bool) -> None:
        if which >= len(self.hands[consumer]):
            return
        delivery = self.hands[consumer].pop(which)
        assert delivery.data is not None
        entry = self.model.end(delivery.priority, delivery.entry)
        if verdict == "done":
            delivery.outcome = DONE
        elif verdict == "retry":
            data = delivery.data + b"+"
            value = delivery.priority[0].encode() + data
            name = f"~{delivery.priority[0]}{delivery.entry.decode()}"
            delivery.outcome = Outcome("retry", (0, name, value))
            if entry:
                self.model.retries += 1
                self.model.arm(name, 1000 + self.model.retries, delivery.priority, data)
        else:
            delivery.outcome = Outcome("bury", (delivery.data, "tired", ""))
            if entry:
                self.model.dead.append(delivery.data)
        assert await self.shard.settle([delivery]) == (1 if entry else 0)
        if repeated:
            assert await self.shard.settle([delivery]) == 0

    async def crash(self, consumer: str) -> None:
        self.hands[consumer].clear()

    async def reclaim(self, consumer: str, priority: str, limit: int) -> None:
        """With a lease of nothing: also from the living, as from one that was stopped for a minute."""
        found, buried = await self.shard.reclaim(priority, consumer, 0.0, limit, MOST_DELIVERIES)
        taken = self.model.held[priority][:limit]
        tired = [entry for entry in taken if entry.deliveries >= MOST_DELIVERIES]
        for entry in tired:
            self.model.end(priority, entry.id)
            self.model.dead.append(entry.data)
        kept = [entry for entry in taken if entry not in tired]
        for entry in kept:
            entry.owner, entry.deliveries = consumer, entry.deliveries + 1
        assert buried == len(tired)
        assert [(delivery.entry, delivery.data) for delivery in found] == [(entry.id, entry.data) for entry in kept]
        known = {(delivery.priority, delivery.entry) for delivery in self.hands[consumer]}
        self.hands[consumer] += [delivery for delivery in found if (priority, delivery.entry) not in known]

    async def give_back(self, consumer: str) -> None:
        for priority in PRIORITIES:
            mine = [entry for entry in self.model.held[priority] if entry.owner == consumer]
            assert await self.shard.release(priority, consumer) == len(mine)
            for entry in mine:
                entry.owner, entry.deliveries = "-", entry.deliveries - 1
        self.hands[consumer].clear()

    async def redrive(self) -> None:
        letters = await self.shard.dead("", 1000)
        assert [fields[b"d"] for _, fields in letters] == self.model.dead
        moved = [(id.decode(), fields[b"p"].decode(), fields[b"d"] + b"!") for id, fields in letters]
        if moved:
            assert await self.shard.redrive(moved) == len(moved)
            assert await self.shard.redrive(moved) == 0
        self.model.dead.clear()
        for _, letter, data in moved:
            priority = next(priority for priority in PRIORITIES if priority.startswith(letter))
            self.model.unread[priority].append(Entry("", data))
            self.model.armed.add(data)

    async def finish(self) -> None:
        """After any steps, a worker that lives brings everything to its end."""
        await self.promote(1000)
        for priority in PRIORITIES:
            await self.read("one", priority, 1000)
        for _ in range(2):
            for priority in PRIORITIES:
                await self.reclaim("one", priority, 1000)
        while self.hands["one"]:
            await self.settle("one", 0, "done", False)

    async def check(self) -> None:
        row = await self.shard.figures()
        model = self.model
        held = sum(entry.owner != "-" for entries in model.held.values() for entry in entries)
        given_back = sum(entry.owner == "-" for entries in model.held.values() for entry in entries)
        waiting = sum(map(len, model.unread.values())) + given_back
        overdue = sum(due < FAR for due, _, _ in model.pending.values())
        assert row[:5] == [waiting, held, len(model.pending), overdue, len(model.dead)]
        # Beside each pending timer its message, and no message without a timer.
        messages: Any = await self.shard._commands.hgetall(self.shard._data)
        kept = {id: priority[0].encode() + data for id, (_, priority, data) in model.pending.items()}
        assert {id.decode(): value for id, value in messages.items()} == kept


@settings(max_examples=examples(50), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(steps, min_size=15, max_size=60))
async def test_redis_does_what_the_model_does(history: list[tuple[object, ...]], make_broker: MakeBroker) -> None:
    broker = make_broker(queue=f"model{next(_queues)}", priorities=PRIORITIES)
    run = Run(broker.shards[0])
    await run.shard.make_groups()
    for name, *arguments in history:
        await getattr(run, str(name).replace(" ", "_"))(*arguments)
        await run.check()
    await run.finish()
    await run.check()
    model = run.model
    still = {data for _, _, data in model.pending.values()}
    assert set(model.ended.values()) <= {1}, "ended twice"
    assert set(model.ended) | model.dropped | still == model.armed, "lost"
    await broker.shutdown()
