"""What becomes of tasks that fail, cannot be read, or kill the worker that runs them."""

from typing import Annotated

import pytest
from taskiq import Context, TaskiqDepends, TaskiqMessage, TaskiqMiddleware
from taskiq.acks import AcknowledgeType
from tocsin_timers import TimerBroker, TimerSource

from tests.timers.conftest import MakeBroker
from tests.timers.support import buried, called, done, in_seconds, settled, until, working

Given = Annotated[Context, TaskiqDepends()]


async def test_a_failing_task_is_tried_again_and_then_kept(broker: TimerBroker) -> None:
    tries: list[tuple[str, int, str]] = []

    @broker.task("fail")
    async def fail(what: str, context: Given) -> None:
        tries.append((what, int(context.message.labels.get("attempt", 1)), context.message.task_id))
        raise ValueError(f"no {what}")

    source = TimerSource(broker)
    async with working(broker):
        await called(fail).kicker().with_schedule_id("t").schedule_by_time(source, in_seconds(0.05), "timer")
        await called(fail).kicker().with_labels(attempts=2).with_task_id("two").kiq("two")
        await until(lambda: len(tries) == 5, "all attempts are made")
        await until(lambda: settled(broker), "both are dead")
    assert [attempt for what, attempt, _ in tries if what == "timer"] == [1, 2, 3]
    assert [(attempt, id) for what, attempt, id in tries if what == "two"] == [(1, "two"), (2, "two")]
    figures = await broker.figures()
    assert (figures.dead, figures.failed, figures.completed) == (2, 5, 0)
    letters = {letter.task_id: letter for letter in await broker.dead_letters()}
    assert letters["t"].reason == "attempt 3 of 3: ValueError: no timer"
    assert (letters["t"].task_name, letters["t"].timer_id) == ("fail", "t")
    assert letters["two"].timer_id == ""
    assert letters["two"].priority == "normal"


async def test_a_task_that_recovers_is_done(broker: TimerBroker) -> None:
    tries = 0

    @broker.task("flaky")
    async def flaky() -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise ValueError

    async with working(broker):
        await flaky.kiq()
        await until(lambda: done(broker, completed=1, failed=2), "the third time")
    assert (await broker.figures()).dead == 0


async def test_entries_of_one_instant_in_two_streams_keep_their_own_retries(broker: TimerBroker) -> None:
    """Redis gives both the same id: entry ids are unique in their stream only."""
    tries: list[str] = []

    @broker.task("once")
    async def once(what: str) -> None:
        tries.append(what)
        if tries.count(what) == 1:
            raise ValueError

    await broker.kick_many(broker.encode(once, p, labels={"priority": p}) for p in broker.priorities)
    async with working(broker):
        await until(lambda: done(broker, completed=2, failed=2), "both recover")
    assert sorted(tries) == ["critical", "critical", "normal", "normal"]


async def test_dead_letters_are_listed_redriven_and_discarded(make_broker: MakeBroker) -> None:
    broker = make_broker(shards=2)
    mended, ran = False, []

    @broker.task("fragile", attempts=1, priority="critical")
    async def fragile(what: str) -> None:
        if not mended:
            raise ValueError
        ran.append(what)

    async with working(broker):
        await broker.kick_many(broker.encode(fragile, str(n)) for n in range(9))
        await until(lambda: done(broker, completed=0, failed=9), "all die")
        first = await broker.dead_letters(limit=4)
        rest = await broker.dead_letters(after=first[-1].id)
        ids = [letter.id for letter in [*first, *rest]]
        assert len(set(ids)) == 9
        assert await broker.discard(ids[:2]) == 2
        mended = True
        assert await broker.redrive(ids) == 7
        assert await broker.redrive(ids) == 0
        await until(lambda: len(ran) == 7, "the others run")
        await until(lambda: done(broker, completed=7, failed=9), "they are done")
    assert await broker.dead_letters() == []
    with pytest.raises(ValueError, match="not the id of a dead letter"):
        await broker.redrive(["nonsense"])


async def test_dead_letters_have_a_bound_and_what_is_forgotten_is_counted(make_broker: MakeBroker) -> None:
    broker = make_broker(most_dead=3, max_deliveries=1)

    @broker.task("fail", attempts=1)
    async def fail(what: str) -> None:
        raise ValueError(what)

    async with working(broker, concurrency=1):
        for what in "abcd":
            await called(fail).kiq(what)
        await until(lambda: done(broker, 0, 4), "they die")
        assert [letter.reason[-1] for letter in await broker.dead_letters()] == ["b", "c", "d"]
        await broker.bury(broker.encode(called(fail), "e"), "buried by hand")
        assert (await broker.figures()).forgotten == 2
    [shard] = broker.shards
    await called(fail).kiq("f")
    assert len(await shard.read("normal", "victim", 1, 0.1)) == 1

    async def taken() -> bool:
        return (await shard.reclaim("normal", "another", 0.1, 1, 1))[1] == 1

    await until(taken, "what killed its worker is buried")
    figures = await broker.figures()
    assert (figures.dead, figures.forgotten) == (3, 3)
    assert (await broker.dead_letters())[-1].reason == "delivered 1 times and never finished"


async def test_a_redriven_letter_has_all_its_attempts_again(broker: TimerBroker) -> None:
    tries = 0

    @broker.task("fail")
    async def fail() -> None:
        nonlocal tries
        tries += 1
        raise ValueError

    async with working(broker):
        await called(fail).kiq()
        await until(lambda: done(broker, 0, 3), "it dies")
        await broker.redrive([letter.id for letter in await broker.dead_letters()])
        await until(lambda: done(broker, 0, 6), "it dies again")
    assert tries == 6


async def test_what_cannot_be_read_or_is_unknown_is_kept(broker: TimerBroker) -> None:
    @broker.task("known")
    async def known() -> None: ...

    message = broker.encode(known)
    await broker.kick(message.model_copy(update={"message": b"\xff\xff"}))
    elsewhere = TimerBroker("redis://127.0.0.1:1", queue="x")
    await broker.kick(elsewhere.encode(elsewhere.register_task(known.original_func, "elsewhere")))
    [shard] = broker.shards
    await shard._commands.xadd(shard.streams["normal"], {"foreign": "entry"})
    await broker.kick(message)
    async with working(broker):
        await until(lambda: done(broker, completed=1, failed=3), "all are settled")
        letters = await broker.dead_letters()
        assert sorted(letter.reason.split(":")[0] for letter in letters) == [
            "an entry without a message in it",
            "unknown task 'elsewhere'",
            "unreadable",
        ]
        assert {letter.data for letter in letters} >= {b"\xff\xff"}
    await elsewhere.shutdown()


async def test_a_rejected_task_is_dead_at_once(broker: TimerBroker) -> None:
    @broker.task("reject")
    async def reject(context: Given) -> None:
        context.reject()

    async with working(broker):
        await called(reject).kiq()
        await until(lambda: done(broker, 0, 1), "it is dead")
    [letter] = await broker.dead_letters()
    assert letter.reason.startswith("rejected")


async def test_a_requeued_task_runs_again_and_has_not_failed(broker: TimerBroker) -> None:
    runs = 0

    @broker.task("again")
    async def again(context: Given) -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            await context.requeue()

    async with working(broker):
        await called(again).kiq()
        await until(lambda: done(broker, completed=2), "both runs are done")


@pytest.mark.parametrize("ack_type", [*AcknowledgeType])
async def test_every_ack_type_acknowledges_once(broker: TimerBroker, ack_type: AcknowledgeType) -> None:
    pending_in_task: list[int] = []

    @broker.task("ack")
    async def ack(context: Given) -> None:
        if ack_type == AcknowledgeType.MANUAL:
            await context.ack()
        pending_in_task.append((await broker.figures()).active)

    async with working(broker, ack_type=ack_type):
        await called(ack).kiq()
        await until(lambda: done(broker, completed=1), "it is acknowledged")
    early = ack_type in (AcknowledgeType.WHEN_RECEIVED, AcknowledgeType.MANUAL)
    assert pending_in_task == [0 if early else 1]


async def test_a_task_that_keeps_its_acknowledgement_is_given_to_another_worker(make_broker: MakeBroker) -> None:
    broker = make_broker(lease=0.5)
    runs = 0

    @broker.task("keeps", ack_type="manual")
    async def keeps(context: Given) -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            await context.ack()

    async with working(broker):
        await called(keeps).kiq()
        await until(lambda: done(broker, completed=1), "the second run acknowledges")
    assert runs == 2


async def test_a_failing_middleware_is_a_failed_attempt(broker: TimerBroker) -> None:
    class Broken(TaskiqMiddleware):
        def pre_execute(self, message: TaskiqMessage) -> TaskiqMessage:
            raise RuntimeError("broken")

    @broker.task("fine")
    async def fine() -> None: ...

    broker.add_middlewares(Broken())
    async with working(broker):
        await fine.kiq()
        await until(lambda: done(broker, 0, 3), "it dies")
    [letter] = await broker.dead_letters()
    assert letter.reason == "attempt 3 of 3: RuntimeError: broken"


async def test_what_kills_its_workers_is_buried_in_the_end(make_broker: MakeBroker) -> None:
    """Consumers that read and vanish stand for processes that crash."""
    broker = make_broker(max_deliveries=3, lease=0.2)

    @broker.task("deadly")
    async def deadly() -> None: ...

    [shard] = broker.shards
    await shard.make_groups()
    await deadly.kiq()
    assert len(await shard.read("normal", "victim0", 1, 0.1)) == 1
    for victim in range(1, 3):

        async def taken(victim: int = victim) -> bool:
            found, _ = await shard.reclaim("normal", f"victim{victim}", 0.2, 1, 3)
            return len(found) == 1

        await until(taken, "the next victim takes it over")
    async with working(broker):
        await until(lambda: buried(broker), "it is buried")
    [letter] = await broker.dead_letters()
    assert letter.reason == "delivered 3 times and never finished"
    assert letter.task_name == "deadly"
