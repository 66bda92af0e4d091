"""The same library on a Redis Cluster and behind Sentinel, with real processes that die, return and give slots away."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio.cluster import NodesManager
from redis.exceptions import RedisError, TryAgainError
from taskiq.exceptions import SendTaskError
from tocsin_stack.ports import free_port
from tocsin_testkit.busy import within
from tocsin_timers import TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.groups import Cluster, Node, cluster_of_five, sentinel_pair
from tests.timers.support import filled, in_seconds, settled, until, working


@pytest.fixture(scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    """One for all tests here: each leaves it whole."""
    async with cluster_of_five(tmp_path_factory.mktemp("cluster")) as running:
        yield running


class Acts:
    """A task, and when it ran for whom."""

    def __init__(self, broker: TimerBroker) -> None:
        self.broker = broker
        self.source = TimerSource(broker)
        self.at: dict[str, list[float]] = {}
        self.due: dict[str, float] = {}

        @broker.task("act")
        async def act(id: str) -> None:
            self.at.setdefault(id, []).append(time.monotonic())

        self.task = act

    async def arm(self, *timers: tuple[str, float]) -> None:
        """(id, seconds from now)"""
        self.due |= {id: time.monotonic() + seconds for id, seconds in timers}
        await self.source.arm(self.source.timer(id, in_seconds(seconds), self.task, id) for id, seconds in timers)

    def lateness(self, id: str) -> float:
        return self.at[id][0] - self.due[id]

    async def all_once(self) -> None:
        """Return when every timer has fired; none fires a second time until all is settled."""
        await until(lambda: self.at.keys() >= self.due.keys(), "every timer fires", limit=20)
        await until(lambda: answers(settled(self.broker)), "all is settled")
        assert {id for id, times in self.at.items() if len(times) > 1} == set()


async def answers(question: Awaitable[bool]) -> bool:
    """The answer; False while Redis has none."""
    try:
        return await question
    except RedisError:
        return False


def ids_of(broker: TimerBroker, shards: set[int], name: str, count: int) -> list[str]:
    """Ids that belong to these shards."""
    ids = (f"{name}{number}" for number in range(100 * count))
    return [id for id, _ in zip((id for id in ids if broker.shard_of(id) in shards), range(count), strict=False)]


async def test_a_cluster_with_shards_on_every_master(cluster: Cluster, make_broker: MakeBroker) -> None:
    broker = make_broker(cluster.url, shards=6)
    source = TimerSource(broker)
    ran: list[str] = []

    @broker.task("note", attempts=1)
    async def note(what: str) -> None:
        ran.append(what)
        if what == "bad":
            raise ValueError

    async with working(broker):
        # What is deleted is due much later: on a busy machine a second may be over before it is.
        await source.arm(source.timer(str(n), in_seconds(600 if n <= 100 else 1), note, str(n)) for n in range(300))
        assert await source.delete_schedules(str(n) for n in range(100)) == 100
        assert await source.delete_schedule("100")
        await note.kicker().with_schedule_id("one").schedule_by_time(source, in_seconds(0.2), "one")
        await broker.kick_many(broker.encode(note, f"now{n}") for n in range(50))
        await note.kiq("bad")
        await until(lambda: len(ran) >= 251, "all run")
        await until(lambda: settled(broker), "nothing is left")
        figures = await broker.figures()
        assert (figures.completed, figures.dead) == (250, 1)
        assert await broker.redrive([letter.id for letter in await broker.dead_letters()]) == 1
        await until(lambda: ran.count("bad") == 2, "it runs again")
        assert [await filled(broker) for _ in range(2)] == [1, 0]
        await broker.pause()
        assert await broker.is_paused()
        await broker.resume()
    assert len(ran) == len(set(ran)) + 1
    owners = {(await cluster.owner(shard)).port for shard in broker.shards}
    assert len(owners) == 3, "a master without any shard"


async def test_a_send_without_an_answer_is_not_repeated(cluster: Cluster, make_broker: MakeBroker) -> None:
    broker = make_broker(cluster.url, command_timeout=0.3)
    sender = Acts(broker)
    await sender.task.kiq("first")
    owner = await cluster.owner(broker.shards[0])
    owner.valkey.pause()
    # Late enough for the time-out, and early enough for a second try to arrive.
    asyncio.get_running_loop().call_later(0.45, owner.valkey.resume)
    with pytest.raises(SendTaskError):
        await sender.task.kiq("second")

    async def arrived() -> bool:
        return await answers(has_waiting(broker, 2))

    await until(arrived, "the server goes on and takes what it was sent")
    async with working(broker):
        await until(lambda: settled(broker), "all is done")
    assert {id: len(times) for id, times in sender.at.items()} == {"first": 1, "second": 1}


async def has_waiting(broker: TimerBroker, count: int) -> bool:
    return (await broker.figures()).waiting >= count


async def test_a_connection_that_was_closed_meanwhile_costs_no_command(
    cluster: Cluster, make_broker: MakeBroker
) -> None:
    broker = make_broker(cluster.url)
    sender = Acts(broker)
    await asyncio.gather(*(broker.figures() for _ in range(5)))
    owner = await cluster.owner(broker.shards[0])
    await owner.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await owner.call("PING")
    for number in range(5):
        await sender.task.kiq(str(number))
    assert (await broker.figures()).waiting == 5


async def test_a_cluster_that_cannot_be_reached_is_a_redis_error(
    make_broker: MakeBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker = make_broker(f"redis+cluster://127.0.0.1:{free_port()}")
    with pytest.raises(RedisError, match="Redis Cluster cannot be connected"):
        await broker.figures()
    with caplog.at_level(logging.WARNING):
        async with working(broker):
            await until(lambda: caplog.text.count("Redis is away") >= 2, "the worker says so")
    assert not any(record.exc_info for record in caplog.records)


async def test_the_node_that_is_silent_is_the_last_to_be_asked_where_the_others_are(
    cluster: Cluster, make_broker: MakeBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command waits for that answer: a node that hangs would hold up the shards of all others."""
    broker = make_broker(cluster.url, command_timeout=0.2)
    await broker.figures()
    asked_last: list[str | None] = []
    initialize = NodesManager.initialize

    async def spy(manager: NodesManager, *, last_failed_node_name: str | None, **options: Any) -> None:
        asked_last.append(last_failed_node_name)
        await initialize(manager, last_failed_node_name=last_failed_node_name, **options)

    monkeypatch.setattr(NodesManager, "initialize", spy)
    owner = await cluster.owner(broker.shards[0])
    owner.valkey.pause()
    try:
        for _ in range(2):
            with pytest.raises(RedisError):
                await broker.figures()
    finally:
        owner.valkey.resume()
    assert asked_last == [f"127.0.0.1:{owner.port}"]
    await until(lambda: answers(settled(broker)), "it answers again")


async def test_a_master_dies_and_its_replica_goes_on(cluster: Cluster, make_broker: MakeBroker) -> None:
    broker = make_broker(cluster.url, shards=6)
    owners = [await cluster.owner(shard) for shard in broker.shards]
    [victim, *_] = [owner for owner in owners if await cluster.has_replica(owner)]
    lost = {shard.number for shard, owner in zip(broker.shards, owners, strict=True) if owner is victim}
    kept = {shard.number for shard in broker.shards} - lost
    acts = Acts(broker)
    bystander = Acts(await queue_that_needs_not(victim, cluster, make_broker))

    try:
        async with working(broker), working(bystander.broker):
            assert await filled(broker) == 1
            ticks = [(id, 0.2 + 0.02 * n) for n, id in enumerate(ids_of(broker, kept, "tick", 150))]
            pending = [(id, 0.8 + 0.03 * n) for n, id in enumerate(ids_of(broker, lost, "pending", 100))]
            await acts.arm(*ticks, *pending)
            await bystander.arm(*((str(n), 0.2 + 0.02 * n) for n in range(150)))
            for number in lost:
                await victim.replicated(broker.shards[number])
            killed = time.monotonic()
            victim.valkey.kill()
            refusals: list[RedisError] = []
            await insists(lambda: acts.arm(*((id, 0.1) for id in ids_of(broker, lost, "meanwhile", 10))), refusals)
            assert refusals, "the replica cannot have been the master at once"
            await acts.all_once()
            await bystander.all_once()
            assert [await filled(broker) for _ in range(2)] == [1, 0]
    finally:
        if not victim.valkey.process.running:
            await victim.valkey.start()
        await until(cluster.whole, "the old master is the replica", limit=20)
    outage = min(acts.at[id][0] for id, _ in pending) - killed
    worst = max(acts.lateness(id) for id, _ in ticks)
    # On a busy machine timers are late also while nothing is wrong; to wait for the end of the outage is told apart there as well.
    share = min(0.95, within(0.5))
    assert worst < share * outage, f"the other shards stood still for {worst:.2f} of {outage:.2f} s"
    assert max(bystander.lateness(id) for id in bystander.due) < share * outage


async def queue_that_needs_not(victim: Node, cluster: Cluster, make_broker: MakeBroker) -> TimerBroker:
    """A queue of one shard that the node does not hold."""
    for number in range(100):
        broker = make_broker(cluster.url, queue=f"bystander{number}")
        if await cluster.owner(broker.shards[0]) is not victim:
            return broker
    raise AssertionError("one node holds every slot")


async def insists(call: Callable[[], Awaitable[Any]], refusals: list[RedisError]) -> None:
    """Repeat a call until Redis takes it. What is no RedisError is raised."""
    async with asyncio.timeout(within(20)):
        while True:
            try:
                await call()
                return
            except RedisError as refusal:
                refusals.append(refusal)
                await asyncio.sleep(0.01)


@asynccontextmanager
async def callers(acts: Acts, cancelled: set[str]) -> AsyncIterator[list[RedisError]]:
    """Arm and cancel all the time, and repeat what Redis does not take: its refusals."""
    refusals: list[RedisError] = []
    stop = asyncio.Event()

    async def arm_and_cancel(kept: str, taken_back: str) -> None:
        await insists(lambda: acts.arm((kept, 0.1)), refusals)
        # So far off that it fires only if the cancelling is lost.
        await insists(lambda: acts.arm((taken_back, 3.0)), refusals)
        await insists(lambda: acts.source.delete_schedule(taken_back), refusals)
        del acts.due[taken_back]
        cancelled.add(taken_back)
        await asyncio.sleep(0.002)

    async def call(name: str) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await arm_and_cancel(f"{name}{number}", f"{name}{number}x")

    tasks = [asyncio.create_task(call(f"caller{number}-")) for number in range(3)]
    try:
        yield refusals
    finally:
        stop.set()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("way", ["key by key", "at once"])
async def test_a_slot_moves_while_timers_fire(cluster: Cluster, make_broker: MakeBroker, way: str) -> None:
    """To a master no client has heard of, since it had no slots; and back."""
    if way == "at once" and not await cluster.can_move_at_once():
        pytest.skip("only Valkey 9 has CLUSTER MIGRATESLOTS")
    # Longer than a busy machine lets this process stand still: what runs when its lease ends is run again.
    broker = make_broker(cluster.url, shards=3, lease=30.0)
    acts = Acts(broker)
    [shard, *_] = broker.shards
    home, away = await cluster.owner(shard), cluster.nodes[-1]
    go_on = asyncio.Event()
    held: list[str] = []

    @broker.task("hold")
    async def hold() -> None:
        held.append("begun")
        await go_on.wait()
        held.append("ended")

    # One id of the shard that moves, so that its task is running while its entry is moved.
    [of_the_shard] = ids_of(broker, {0}, "hold", 1)
    cancelled: set[str] = set()
    async with working(broker):
        await hold.kicker().with_task_id(of_the_shard).kiq()
        await acts.arm(*((f"tick{n}", 0.1 + 0.005 * n) for n in range(300)))
        async with callers(acts, cancelled) as refusals:
            await until(lambda: held == ["begun"] and len(acts.at) > 20, "all are busy")
            if way == "at once":
                for target in (away, home):
                    await cluster.move_at_once(shard, target)
            else:

                async def half_way() -> None:
                    before = len(refusals)
                    await until(lambda: len(refusals) > before, "somebody is told to try again")
                    go_on.set()

                for target in (away, home):
                    await cluster.move(shard, target, half_way)
            go_on.set()
        assert cancelled
        await acts.all_once()
        assert held == ["begun", "ended"]
        # Readers that were blocked in the old place read in the new one.
        await acts.arm(*((id, 0.0) for id in ids_of(broker, {0}, "after", 5)))
        await acts.all_once()
    assert not cancelled & acts.at.keys()


async def test_a_slot_in_two_places_is_named(cluster: Cluster, make_broker: MakeBroker) -> None:
    broker = make_broker(cluster.url)
    acts = Acts(broker)
    await acts.arm(("x", 60))

    async def half_way() -> None:
        with pytest.raises(TryAgainError, match="is being moved"):
            await broker.figures()

    [shard] = broker.shards
    home = await cluster.owner(shard)
    for target in (cluster.nodes[-1], home):
        await cluster.move(shard, target, half_way)
    assert (await broker.figures()).delayed == 1


async def test_sentinel_fails_over_and_back(tmp_path: Path, make_broker: MakeBroker) -> None:
    """The first master is killed and comes back as the replica; the second one hangs, and wakes up believing it is one."""
    async with sentinel_pair(tmp_path) as pair:
        acts = Acts(make_broker(pair.url, command_timeout=1.0))
        [shard] = acts.broker.shards
        first, second = pair.nodes
        async with working(acts.broker):
            assert [await filled(acts.broker) for _ in range(2)] == [1, 0]
            await acts.arm(("fires from the second", 0.8))
            await first.replicated(shard)
            first.valkey.kill()
            await acts.all_once()
            await first.valkey.start()
            assert [await filled(acts.broker) for _ in range(2)] == [1, 0]
            await until(lambda: pair.ready(second, first), "the old master is the replica", limit=20)
            await acts.arm(("fires from the first", 0.8))
            await second.replicated(shard)
            second.valkey.pause()
            await acts.all_once()
            second.valkey.resume()
            await acts.arm(*((f"after{n}", 0.02 * n) for n in range(30)))
            await acts.all_once()
            assert [await filled(acts.broker) for _ in range(2)] == [1, 0]
