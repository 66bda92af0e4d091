"""What comes through the stream: jobs that cannot be read, pages in sets, what lies among its dead."""

from redis.asyncio import Redis
from taskiq.kicker import AsyncKicker
from tocsin.notify.v1 import internal_service_pb2
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.notify.v1 import notification_service_pb2 as service_pb
from tocsin_notify.work.tasks import SUBMIT, SUBMIT_SET
from tocsin_timers import TimerBroker

from tests.store.notify.stream import kick
from tests.store.notify.support import Notify, World, bearer, job, new_org, operator, until


def set_of(*jobs: pb.NotificationJob) -> internal_service_pb2.SubmitNotificationsRequest:
    return internal_service_pb2.SubmitNotificationsRequest(jobs=jobs)


async def test_an_unreadable_job_is_kept_and_shown_to_operators_only(
    world: World, notify: Notify, broker: TimerBroker
) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    redis = Redis.from_url(world.redis_url)
    stream = broker.shards[0].streams["critical"]
    await redis.xadd(stream, {"d": b"\xff\xfenot protobuf"})
    broken = job(org)
    broken.user = "nobody in particular"
    await kick(broker, broken)
    await kick(broker, "not a job")
    await kick(broker, job(org), task="notify.unheard_of")
    await kick(broker, job(org))
    await until(lambda: world.arrived("ana") == 1)

    async def collected() -> bool:
        return bool(await world.admin.fetchval("SELECT count(*) FROM dead_letters") == 4)

    await until(collected)
    await until(lambda: _none_dead(broker))
    await redis.aclose()

    request = service_pb.ListDeadLettersRequest()
    theirs = await notify.notifications.ListDeadLetters(request, metadata=bearer(org))
    assert list(theirs.dead_letters) == []
    ours = await notify.notifications.ListDeadLetters(request, metadata=operator())
    assert {letter.reason for letter in ours.dead_letters} == {"UNREADABLE_JOB"}
    whole = [
        (
            await notify.notifications.GetDeadLetter(
                service_pb.GetDeadLetterRequest(name=letter.name), metadata=operator()
            )
        ).dead_letter
        for letter in ours.dead_letters
    ]
    assert b"\xff\xfenot protobuf" in {letter.raw for letter in whole}
    assert all(letter.detail for letter in whole)

    names = [letter.name for letter in whole]
    redriven = await notify.notifications.RedriveDeadLetters(
        service_pb.RedriveDeadLettersRequest(names=names), metadata=operator()
    )
    assert sorted(redriven.redriven) == sorted(names)
    again = await notify.notifications.ListDeadLetters(request, metadata=operator())
    assert len(again.dead_letters) == 4, "still unreadable: kept anew, never dropped"
    assert not {letter.name for letter in again.dead_letters} & set(names)


async def _none_dead(broker: TimerBroker) -> bool:
    return (await broker.figures()).dead == 0


async def test_a_readable_page_among_the_dead_of_the_stream_is_simply_taken_in(
    world: World, notify: Notify, broker: TimerBroker
) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    kicker: AsyncKicker[..., None] = AsyncKicker(SUBMIT, broker, {})
    await broker.bury(broker.encode(kicker, job(org)), "a worker died of it five times")
    await until(lambda: world.arrived("ana") == 1)
    await until(lambda: _none_dead(broker))
    assert await world.admin.fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_pages_come_in_sets_and_one_that_breaks_a_rule_is_left_to_its_copy(
    world: World, notify: Notify, broker: TimerBroker
) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    broken, known, fresh = job(org), job(org), job(org)
    broken.user = "nobody in particular"
    await notify.submit(known)
    await kick(broker, set_of(broken, known, fresh, fresh), task=SUBMIT_SET)
    await until(lambda: world.arrived("ana") == 2)
    await broker.bury(
        broker.encode(AsyncKicker[..., None](SUBMIT_SET, broker, {}), set_of(job(org), job(org), fresh)),
        "a worker died",
    )
    await until(lambda: world.arrived("ana") == 4)
    await until(lambda: _none_dead(broker))
    assert await world.admin.fetchval("SELECT count(*) FROM dead_letters") == 0
