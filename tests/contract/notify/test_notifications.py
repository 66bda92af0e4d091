"""NotificationService, QueueService and the internal service through a real socket."""

import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.notify.v1 import internal_service_pb2 as internal_pb
from tocsin.notify.v1 import notification_pb2
from tocsin.notify.v1 import notification_service_pb2 as pb
from tocsin.queue.v1 import queue_service_pb2 as queue_pb

from tests.contract.errors import refused_by_size
from tests.contract.notify.caller import Door, refused
from tests.store.notify.support import Notify, World, bearer, internal, job, new_org, operator, until


async def dead(world: World) -> bool:
    return bool(await world.admin.fetchval("SELECT count(*) FROM dead_letters") > 0)


async def test_a_notification_tells_its_story(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    method = await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [503])
    page = job(org, incident, level=2, repeat=1, generation=5)
    await notify.submit(page)

    async def sent() -> bool:
        return await world.states() == ["sent"]

    await until(sent)
    listed = await notify.notifications.ListNotifications(
        pb.ListNotificationsRequest(incident=f"incidents/{incident}"), metadata=bearer(org)
    )
    name = listed.notifications[0].name
    assert list(listed.notifications[0].attempts) == []
    request = pb.GetNotificationRequest(name=name)
    found = (await notify.notifications.GetNotification(request, metadata=bearer(org))).notification
    assert (found.page, found.user, found.incident, found.title) == (
        page.page,
        "users/ana",
        f"incidents/{incident}",
        "Disk full on db-1",
    )
    assert (found.level, found.repeat, found.generation) == (2, 1, 5)
    assert found.contact_method == f"contactMethods/{method}"
    assert found.channel == notification_pb2.CHANNEL_WEBHOOK
    assert found.type == notification_pb2.NOTIFICATION_TYPE_NEW_INCIDENT
    assert found.state == notification_pb2.NOTIFICATION_STATE_SENT
    assert [attempt.outcome for attempt in found.attempts] == [
        notification_pb2.ATTEMPT_OUTCOME_RETRYABLE,
        notification_pb2.ATTEMPT_OUTCOME_SENT,
    ]
    assert found.attempts[0].detail.startswith("503")
    assert found.lateness.ToTimedelta().total_seconds() > 0
    assert not found.HasField("due_time")
    missing = await refused(notify.notifications.GetNotification(request, metadata=bearer(new_org())))
    assert (missing.reason_name, missing.code) == ("NOTIFICATION_NOT_FOUND", grpc.StatusCode.NOT_FOUND)


async def test_lists_are_filtered_newest_first_and_paged(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    await world.method(org, "users/bob", webhook="bob")
    await notify.cancel(org, incident)
    pages = [job(org), job(org, user="users/bob"), job(org, incident), job(org), job(org)]
    for each in pages:
        await notify.submit(each)

    async def settled() -> bool:
        return sorted(await world.states()) == ["cancelled", "sent", "sent", "sent", "sent"]

    await until(settled)

    async def list_(**fields: Any) -> pb.ListNotificationsResponse:
        response: pb.ListNotificationsResponse = await notify.notifications.ListNotifications(
            pb.ListNotificationsRequest(**fields), metadata=bearer(org)
        )
        return response

    names = [each.page for each in pages]
    assert [each.page for each in (await list_()).notifications] == names[::-1]
    assert [each.page for each in (await list_(user="users/bob")).notifications] == [names[1]]
    cancelled = await list_(states=[notification_pb2.NOTIFICATION_STATE_CANCELLED])
    assert [each.page for each in cancelled.notifications] == [names[2]]
    assert cancelled.notifications[0].state_reason == "acknowledged by users/ana"
    assert [each.page for each in (await list_(page=names[3])).notifications] == [names[3]]
    first = await list_(page_size=2)
    second = await list_(page_size=2, page_token=first.next_page_token)
    third = await list_(page_size=2, page_token=second.next_page_token)
    walked = [each.page for page in (first, second, third) for each in page.notifications]
    assert walked == names[::-1]
    assert third.next_page_token == ""
    request = pb.ListNotificationsRequest(user="users/bob", page_token=first.next_page_token)
    error = await refused(notify.notifications.ListNotifications(request, metadata=bearer(org)))
    assert error.reason_name == "PAGE_TOKEN_INVALID"


async def test_a_dead_letter_redriven_is_sent_with_fresh_attempts_under_a_new_key(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [410])
    await notify.submit(job(org))
    await until(lambda: dead(world))
    listed = await notify.notifications.ListDeadLetters(pb.ListDeadLettersRequest(), metadata=bearer(org))
    letter = listed.dead_letters[0]
    assert (letter.reason, letter.user) == ("PERMANENT_FAILURE", "users/ana")
    assert letter.job.page == "", "only in GetDeadLetter"
    whole = await notify.notifications.GetDeadLetter(pb.GetDeadLetterRequest(name=letter.name), metadata=bearer(org))
    assert whole.dead_letter.job.title == "Disk full on db-1"

    unknown = f"deadLetters/{uuid.uuid4()}"
    request_id = str(uuid.uuid4())
    request = pb.RedriveDeadLettersRequest(request_id=request_id, names=[letter.name, unknown])
    answer = await notify.notifications.RedriveDeadLetters(request, metadata=bearer(org))
    assert (list(answer.redriven), list(answer.not_found)) == ([letter.name], [unknown])
    assert await notify.notifications.RedriveDeadLetters(request, metadata=bearer(org)) == answer
    await until(lambda: world.arrived("ana") == 1)
    assert world.inbox.messages[0].key.endswith("-2")
    once_more = pb.RedriveDeadLettersRequest(names=[letter.name])
    again = await notify.notifications.RedriveDeadLetters(once_more, metadata=bearer(org))
    assert list(again.not_found) == [letter.name]
    waiting = await notify.notifications.ListDeadLetters(pb.ListDeadLettersRequest(), metadata=bearer(org))
    assert list(waiting.dead_letters) == []
    everything = await notify.notifications.ListDeadLetters(
        pb.ListDeadLettersRequest(include_redriven=True), metadata=bearer(org)
    )
    assert everything.dead_letters[0].HasField("redrive_time")


async def test_redriving_after_an_acknowledge_cancels_instead(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [410])
    await notify.submit(job(org, incident), job(org, incident, user="users/nobody"))

    async def both() -> bool:
        return bool(await world.admin.fetchval("SELECT count(*) FROM dead_letters") == 2)

    await until(both)
    await world.method(org, "users/nobody", webhook="nobody")
    await notify.cancel(org, incident)
    letters = await world.admin.fetch("SELECT id FROM dead_letters")
    request = pb.RedriveDeadLettersRequest(names=[f"deadLetters/{row['id']}" for row in letters])
    answer = await notify.notifications.RedriveDeadLetters(request, metadata=bearer(org))
    assert len(answer.redriven) == 2
    assert await world.states() == ["cancelled", "cancelled"]
    assert world.inbox.messages == []


async def test_a_page_for_a_user_without_methods_is_planned_anew_when_it_is_redriven(
    world: World, notify: Notify
) -> None:
    org = new_org()
    await notify.submit(job(org))
    await until(lambda: dead(world))

    async def redrive() -> None:
        id = await world.admin.fetchval("SELECT id FROM dead_letters WHERE redrive_time IS NULL")
        request = pb.RedriveDeadLettersRequest(names=[f"deadLetters/{id}"])
        answer = await notify.notifications.RedriveDeadLetters(request, metadata=bearer(org))
        assert len(answer.redriven) == 1

    await redrive()
    assert await world.admin.fetchval("SELECT count(*) FROM dead_letters") == 2, "still nobody: kept anew"
    await world.method(org, webhook="ana")
    await redrive()
    await until(lambda: world.arrived("ana") == 1)


async def test_another_tenants_dead_letters_do_not_exist(world: World, notify: Notify) -> None:
    org, other = new_org(), bearer(new_org())
    await notify.submit(job(org))
    name = f"deadLetters/{await world.admin.fetchval('SELECT id FROM dead_letters')}"
    listed = await notify.notifications.ListDeadLetters(pb.ListDeadLettersRequest(), metadata=other)
    assert list(listed.dead_letters) == []
    error = await refused(notify.notifications.GetDeadLetter(pb.GetDeadLetterRequest(name=name), metadata=other))
    assert error.reason_name == "DEAD_LETTER_NOT_FOUND"
    request = pb.RedriveDeadLettersRequest(names=[name])
    answer = await notify.notifications.RedriveDeadLetters(request, metadata=other)
    assert list(answer.not_found) == [name]
    seen = await notify.notifications.ListDeadLetters(pb.ListDeadLettersRequest(), metadata=operator())
    assert [letter.name for letter in seen.dead_letters] == [name], "an operator of all tenants sees it"


@pytest.mark.parametrize(
    ("fields", "violation"),
    [
        ({"page": "pages/1"}, "jobs[0].page"),
        ({"page": "pages/" + "-" * 36}, "jobs[0].page"),
        ({"org_id": ""}, "jobs[0].org_id"),
        ({"org_id": "a\0b"}, "jobs[0].org_id"),
        ({"user": "ana"}, "jobs[0].user"),
        ({"incident": ""}, "jobs[0].incident"),
        ({"incident": "incidents/" + "g" * 36}, "jobs[0].incident"),
        ({"type": 0}, "jobs[0].type"),
        ({"type": 99}, "jobs[0].type"),
        ({"type": notification_pb2.NOTIFICATION_TYPE_TEST}, "jobs[0].type"),
        ({"channel_override": 99}, "jobs[0].channel_override"),
        ({"planned_time": Timestamp(seconds=10**15)}, "jobs[0].planned_time"),
    ],
)
async def test_bad_jobs(door: Door, fields: dict[str, Any], violation: str) -> None:
    bad = job("acme")
    for name, value in fields.items():
        if isinstance(value, Timestamp):
            getattr(bad, name).CopyFrom(value)
        else:
            setattr(bad, name, value)
    error = await refused(door.notify.submit(bad))
    assert (error.reason_name, error.code) == ("INVALID_FIELD", grpc.StatusCode.INVALID_ARGUMENT)
    assert violation in {each.field for each in error.fields}


async def test_too_many_and_too_large(notify: Notify) -> None:
    none = internal_pb.SubmitNotificationsRequest()
    assert (await refused(notify.internal.SubmitNotifications(none, metadata=internal()))).fields[0].field == "jobs"
    many = internal_pb.SubmitNotificationsRequest(jobs=[job("acme")] * 1001)
    assert (await refused(notify.internal.SubmitNotifications(many, metadata=internal()))).fields[0].field == "jobs"
    large = internal_pb.SubmitNotificationsRequest(jobs=[job("acme", actor="x" * 5_000_000)])
    refusal = await refused_by_size(lambda: notify.internal.SubmitNotifications(large, metadata=internal()))
    assert refusal is grpc.StatusCode.RESOURCE_EXHAUSTED


SCOPED = [
    ("internal", "SubmitNotifications", internal_pb.SubmitNotificationsRequest(), "internal"),
    ("internal", "CancelNotifications", internal_pb.CancelNotificationsRequest(), "internal"),
    ("notifications", "GetNotification", pb.GetNotificationRequest(), "notifications:read"),
    ("notifications", "ListNotifications", pb.ListNotificationsRequest(), "notifications:read"),
    ("notifications", "RedriveDeadLetters", pb.RedriveDeadLettersRequest(), "notifications:write"),
    ("queues", "ListQueues", queue_pb.ListQueuesRequest(), "queues:read"),
    ("queues", "PauseQueue", queue_pb.PauseQueueRequest(), "queues:write"),
]


@pytest.mark.parametrize(("service", "method", "request_", "scope"), SCOPED)
async def test_who_may_not_learns_nothing(door: Door, service: str, method: str, request_: Any, scope: str) -> None:
    call = getattr(getattr(door.notify, service), method)
    assert (await refused(call(request_))).code is grpc.StatusCode.UNAUTHENTICATED
    error = await refused(call(request_, metadata=bearer("acme", ("alerts:read",))))
    assert (error.reason_name, dict(error.metadata)) == ("SCOPE_MISSING", {"scope": scope})


async def test_rows_of_other_tenants_are_out_of_reach_even_for_a_query_that_forgets(
    world: World, notify: Notify
) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    await notify.submit(job(org), job(org, user="users/nobody"))
    tables = await world.admin.fetch(
        """SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'org_id'
           WHERE c.relkind = 'r'"""
    )
    assert len(tables) >= 10
    async with notify.runtime.database.transaction(new_org()) as tx:
        for table in tables:
            assert await tx.fetchval(f"SELECT count(*) FROM {table['relname']}") == 0, table
