"""Redis gone or flushed; PostgreSQL cut off; the queue paused."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from redis.asyncio import Redis
from tocsin.notify.v1 import message_service_pb2 as pb_message
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1 import notification_service_pb2 as service_pb
from tocsin.queue.v1 import queue_service_pb2 as queue_pb
from tocsin_stack.postgres import Postgres
from tocsin_stack.scratch import scratch
from tocsin_stack.valkey import Valkey
from tocsin_timers import TimerBroker

from tests.store.notify.messages import ANA, HOUR, Sender, State
from tests.store.notify.stream import kick
from tests.store.notify.support import Notify, World, job, new_org, operator, until

QUEUE = "queues/notify"


@pytest.fixture
async def own_valkey(world: World) -> AsyncIterator[Valkey]:
    """A Valkey that this test may kill; the world uses it."""
    with scratch("tocsin-notify-own-") as folder:
        server = Valkey(folder, appendonly=False)
        await server.start()
        world.redis_url = server.url
        yield server
        await server.stop()


async def figures(notify: Notify) -> queue_pb.Queue:
    answer = await notify.queues.ListQueues(queue_pb.ListQueuesRequest(), metadata=operator())
    queue: queue_pb.Queue = answer.queues[0]
    return queue


async def serves(notify: Notify) -> bool:
    health = health_pb2_grpc.HealthStub(notify.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def test_without_redis_everything_goes_on_from_postgresql(world: World, own_valkey: Valkey) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica() as notify:
        await notify.submit(job(org))
        await until(lambda: world.arrived("ana") == 1)
        own_valkey.kill()
        world.hooks.will_answer("ana", [503, 503])
        await notify.submit(job(org))
        await until(lambda: world.arrived("ana") == 2)
        await until(lambda: serves(notify))
        assert not (await figures(notify)).redis_available
        await own_valkey.start()
        broker = TimerBroker(own_valkey.url, queue="notify")
        await kick(broker, job(org))
        await until(lambda: world.arrived("ana") == 3)
        await broker.shutdown()

        async def available() -> bool:
            return (await figures(notify)).redis_available

        await until(available)


async def test_a_redis_that_stores_nothing_is_told_to_be_unavailable(world: World, own_valkey: Valkey) -> None:
    redis: Redis = Redis.from_url(own_valkey.url)
    async with world.replica() as notify:

        async def told(available: bool) -> bool:
            gauge = notify.runtime.metrics.registry.get_sample_value("tocsin_notify_redis_available")
            return gauge == float(available) and (await figures(notify)).redis_available == available

        await until(lambda: told(True))
        await redis.config_set("maxmemory", 1)
        await until(lambda: told(False))
        await redis.config_set("maxmemory", 0)
        await until(lambda: told(True))
    await redis.aclose()


async def test_started_without_redis_it_serves_and_delivers(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(REDIS_URL="redis://127.0.0.1:1/0") as notify:
        await notify.submit(job(org))
        await until(lambda: world.arrived("ana") == 1)


async def test_a_flushed_redis_gets_its_reminders_back(world: World, notify: Notify, broker: TimerBroker) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 3600), (pb.URGENCY_HIGH, hook, 7200))
    await notify.submit(job(org))

    async def armed() -> bool:
        return (await broker.figures()).delayed == 2

    await until(armed)
    redis = Redis.from_url(world.redis_url)
    await redis.flushdb()
    await until(armed)
    await redis.aclose()


async def test_a_scheduled_message_is_reminded_of_through_redis(
    world: World, notify: Notify, broker: TimerBroker
) -> None:
    sender = Sender(notify, world, new_org())
    await world.method(sender.org, webhook="ana")
    cancelled, _ = await sender.send(later=HOUR), await sender.send(later=2 * HOUR)

    async def armed(number: int) -> bool:
        return (await broker.figures()).delayed == number

    await until(lambda: armed(2))
    redis = Redis.from_url(world.redis_url)
    await redis.flushdb()
    await redis.aclose()
    await until(lambda: armed(2))
    assert await sender.cancel(cancelled)
    await until(lambda: armed(1))
    async with world.replica(works=False) as serving:  # it reaches those that release messages through Redis alone
        sent = await Sender(serving, world, sender.org).send()
        await sender.becomes(sent, State.MESSAGE_STATE_SENT)

    async def worked_off() -> bool:
        told = await broker.figures()
        return (told.delayed, told.waiting, told.active, told.dead, told.failed) == (
            1,
            0,
            0,
            0,
            0,
        ) and told.completed > 0

    await until(worked_off)


async def test_messages_that_are_due_together_share_a_task(world: World, notify: Notify, broker: TimerBroker) -> None:
    sender = Sender(notify, world, new_org())
    await world.method(sender.org, webhook="ana")
    many = [pb_message.Message(user=ANA, text="Standup moves to ten.") for _ in range(40)]
    async with world.replica(works=False) as serving:  # its way to those that release messages leads through Redis
        request = pb_message.BatchSendMessagesRequest(messages=many)
        made = await Sender(serving, world, sender.org).call("BatchSendMessages", request)
    for each in made.results:
        await sender.becomes(each.message, State.MESSAGE_STATE_SENT)

    async def worked_off() -> bool:
        told = await broker.figures()
        return (told.delayed, told.waiting, told.active) == (0, 0, 0) and told.completed > 0

    await until(worked_off)
    told = await broker.figures()
    assert (told.completed, told.failed, told.dead) == (1, 0, 0)


async def test_pause_holds_everywhere_and_outlives_a_flush_and_a_restart(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    paused = queue_pb.PauseQueueRequest(name=QUEUE)
    async with world.replica() as one, world.replica() as two:
        assert (await one.queues.PauseQueue(paused, metadata=operator())).queue.paused
        assert (await one.queues.PauseQueue(paused, metadata=operator())).queue.paused
        assert await two.submit(job(org), job(org)) == 2
        queue = await figures(two)
        assert (queue.paused, queue.overdue, queue.active) == (True, 2, 0)
    redis = Redis.from_url(world.redis_url)
    await redis.flushdb()
    broker = TimerBroker(world.redis_url, queue="notify")
    async with world.replica() as notify:
        await until(broker.is_paused)  # the record is mirrored into the Redis that forgot it
        await notify.submit(job(org))
        await Sender(notify, world, org).send()

        async def all_wait() -> bool:
            return await world.states() == ["pending"] * 4

        await until(all_wait)
        assert world.inbox.messages == []
        await notify.queues.ResumeQueue(queue_pb.ResumeQueueRequest(name=QUEUE), metadata=operator())
        await until(lambda: world.arrived("ana") == 4)

        async def settled() -> bool:
            return await world.states() == ["sent"] * 4

        await until(settled)
        queue = await figures(notify)
        assert (queue.paused, queue.overdue, queue.completed, queue.failed) == (False, 0, 4, 0)
    assert not await broker.is_paused()
    await broker.shutdown()
    await redis.aclose()


async def test_an_unknown_queue(notify: Notify) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await notify.queues.PauseQueue(queue_pb.PauseQueueRequest(name="queues/other"), metadata=operator())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_figures_count_what_waits(world: World, notify: Notify) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 600), (pb.URGENCY_HIGH, hook, 1200))
    await notify.submit(job(org))
    queue = await figures(notify)
    assert (queue.delayed, queue.overdue) == (2, 0)
    now = await world.admin.fetchval("SELECT app_now()")
    assert timedelta(seconds=590) < queue.next_due_time.ToDatetime(now.tzinfo) - now <= timedelta(seconds=600)


async def test_the_database_cut_off_in_the_middle_loses_nothing(
    world: World, notify: Notify, postgres: Postgres
) -> None:
    org = new_org()
    administrator = await asyncpg.connect(postgres.url(world.database_url.rpartition("/")[2]))  # of both logins
    await world.method(org, webhook="ana")
    world.hooks.hang["ana"] = asyncio.Event()
    await notify.submit(job(org))

    async def cut() -> None:
        await administrator.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> ALL ($1::int[])""",
            [administrator.get_server_pid(), world.admin.get_server_pid()],
        )

    await cut()
    world.hooks.hang.pop("ana").set()
    await cut()

    async def sent() -> bool:
        return await world.states() == ["sent"]

    await until(sent)
    await administrator.close()
    assert len({message.key for message in world.inbox.messages}) == 1


async def test_old_rows_go_and_live_ones_stay(world: World, notify: Notify) -> None:
    from tocsin_notify.work.retention import Retention

    org = new_org()
    hook = await world.method(org, webhook="ana")
    await notify.submit(job(org))

    async def sent() -> bool:
        return await world.states() == ["sent"]

    await until(sent)
    await notify.submit(job(org, user="users/nobody"))
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 86_400))
    await notify.submit(job(org))
    await world.admin.execute("UPDATE pages SET create_time = create_time - interval '91 days'")
    await world.admin.execute("UPDATE dead_letters SET create_time = create_time - interval '91 days'")
    await world.admin.execute(
        """INSERT INTO cancel_fences (org_id, incident, generation, reason, update_time)
           SELECT 'o', gen_random_uuid(), 1, '', app_now() - age FROM unnest('{9 days,1 day}'::interval[]) AS age"""
    )
    gone = await Retention(notify.runtime.database, days=90, fence_days=8, event_days=30)()
    assert gone == 4
    assert await world.states() == ["pending"]
    assert await world.admin.fetchval("SELECT count(*) FROM cancel_fences") == 1


async def test_a_page_that_is_redriven_long_after_its_incident_ended_rings_no_phone(
    world: World, notify: Notify
) -> None:
    """What says that it is over is kept for as long as the dead letter waits."""
    from tocsin_notify.work.retention import Retention

    org, incident = new_org(), uuid.uuid4()
    await notify.submit(job(org, incident))
    await notify.cancel(org, incident)
    await world.method(org, webhook="ana")
    for table, column in (("cancel_fences", "update_time"), ("dead_letters", "create_time")):
        await world.admin.execute(f"UPDATE {table} SET {column} = {column} - interval '12 days'")
    retention = Retention(notify.runtime.database, days=90, fence_days=8, event_days=30)
    await retention()
    [letter] = await world.admin.fetch("SELECT id FROM dead_letters")
    request = service_pb.RedriveDeadLettersRequest(names=[f"deadLetters/{letter['id']}"])
    assert len((await notify.notifications.RedriveDeadLetters(request, metadata=operator())).redriven) == 1
    assert await world.states() == ["cancelled"]

    async def is_forgotten() -> bool:
        await retention()  # it passes over a fence that a sweep holds at this moment
        return bool(await world.admin.fetchval("SELECT count(*) = 0 FROM cancel_fences"))

    await until(is_forgotten)
    assert world.arrived("ana") == 0


async def test_rows_of_a_version_that_knows_more_channels_and_kinds_hold_up_no_others(world: World) -> None:
    """After a way back to the version before they are still there: this one leaves them alone, and sends the rest."""
    org, other = new_org(), new_org()
    await world.admin.execute("ALTER TABLE pages DROP CONSTRAINT pages_type")
    pigeon = await world.method(org, pigeon="loft 7")
    hook = await world.method(org, webhook="ana")
    ben = await world.method(other, webhook="ben")
    async with world.replica() as notify:
        await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, pigeon, 0), (pb.URGENCY_HIGH, hook, 600))
        await notify.submit(job(org))
        await until(lambda: world.arrived("ana") == 1)
        await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 600))
        await notify.submit(job(org), job(org), job(org))
        rows = await world.admin.fetch("SELECT id, page_id FROM notifications WHERE state = 'pending' ORDER BY id")
        assert len(rows) >= 3
        await world.admin.execute(
            "UPDATE notifications SET channel = 'pigeon', contact_method = $2 WHERE id = $1", rows[0]["id"], pigeon
        )
        await world.admin.execute(
            """UPDATE notifications SET channel = 'pigeon', contact_method = $2, state = 'sending', attempts = 1, tries = 1,
                 due_time = NULL, lease_until = app_now() - interval '1 hour' WHERE id = $1""",
            rows[1]["id"],
            pigeon,
        )
        await world.admin.execute("UPDATE pages SET type = 'telepathy' WHERE id = $1", rows[2]["page_id"])
        await notify.set_rules(other, "users/ana", (pb.URGENCY_HIGH, ben, 600))
        await notify.submit(job(other))
        await world.forward(timedelta(seconds=601))
        await until(lambda: world.arrived("ben") == 1)
        left = "id = ANY($1::uuid[])"
        await until(lambda: all_but(world, [row["id"] for row in rows[:3]]))
        assert await world.states(left, [row["id"] for row in rows[:3]]) == ["pending", "sending", "pending"]


async def all_but(world: World, left: list[uuid.UUID]) -> bool:
    return set(await world.states("id <> ALL($1::uuid[])", left)) <= {"sent"}
