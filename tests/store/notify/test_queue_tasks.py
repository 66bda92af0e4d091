"""QueueService of notify: its tasks, listed, promoted, retried, removed and drained through a real socket."""

import asyncio
import uuid
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from redis.asyncio import Redis
from tocsin.escalation.v1 import internal_service_pb2 as escalation_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.queue.v1 import queue_service_pb2 as queue_pb
from tocsin.queue.v1 import task_pb2

from tests.contract.errors import failure
from tests.store.notify.messages import HOUR, Sender, State, sender
from tests.store.notify.support import Notify, World, job, new_org, operator, until

__all__ = ["sender"]

QUEUE = "queues/notify"
ANA = "users/ana"


class Operator:
    """Calls QueueService with an operator's credential."""

    def __init__(self, notify: Notify) -> None:
        self._stub = notify.queues

    def call(self, method: str, **fields: Any) -> Awaitable[Any]:
        request = getattr(queue_pb, f"{method}Request")(**fields)
        answer: Awaitable[Any] = getattr(self._stub, method)(request, metadata=operator())
        return answer

    async def tasks(self, state: "task_pb2.TaskState.ValueType", **fields: Any) -> list[task_pb2.Task]:
        answer = await self.call("ListTasks", queue=QUEUE, state=state, **fields)
        return list(answer.tasks)

    async def only(self, state: "task_pb2.TaskState.ValueType") -> task_pb2.Task:
        [task] = await self.tasks(state)
        return task


@pytest.fixture
def board(notify: Notify) -> Operator:
    return Operator(notify)


async def test_a_notification_is_delayed_promoted_and_gone_once_it_is_sent(
    world: World, notify: Notify, board: Operator
) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    await notify.set_rules(org, ANA, (pb.URGENCY_HIGH, hook, 600), (pb.URGENCY_HIGH, hook, 1200))
    page = job(org)
    await notify.submit(page)
    first, second = await board.tasks(task_pb2.TASK_STATE_DELAYED)
    assert (first.org_id, first.about, first.user) == (org, page.incident, ANA)
    assert second.due_time.ToDatetime() - first.due_time.ToDatetime() == timedelta(minutes=10)
    paged = await board.call("ListTasks", queue=QUEUE, state=task_pb2.TASK_STATE_DELAYED, page_size=1)
    token = {"queue": QUEUE, "state": task_pb2.TASK_STATE_DELAYED, "page_size": 1, "page_token": paged.next_page_token}
    rest = await board.call("ListTasks", **token)
    assert [*paged.tasks, *rest.tasks] == [first, second]
    assert not rest.next_page_token
    assert await board.tasks(task_pb2.TASK_STATE_DELAYED, org_id="another") == []

    id = str(uuid.uuid4())
    promoted = await board.call("PromoteTask", name=first.name, request_id=id)
    assert promoted.task.state == task_pb2.TASK_STATE_WAITING
    await until(lambda: world.arrived("ana") == 1)
    assert await board.call("PromoteTask", name=first.name, request_id=id) == promoted, "a repeat gets the first answer"

    async def sent() -> bool:
        return await world.states() == ["sent", "pending"]

    await until(sent)
    gone = await failure(board.call("PromoteTask", name=first.name))
    assert (gone.code, gone.reason) == (grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")
    assert not (await board.call("GetTask", name=second.name)).losses, "the page was sent by the first step"
    entry = await world.row("SELECT actor, resources FROM audit_entries WHERE method LIKE '%PromoteTask'")
    assert (entry["actor"], entry["resources"]) == ("operators/root", [first.name])


async def test_a_notification_whose_user_would_stay_unpaged_is_removed_by_force_only(
    world: World, notify: Notify, board: Operator
) -> None:
    org = new_org()
    hook = await world.method(org, webhook="ana")
    await notify.set_rules(org, ANA, (pb.URGENCY_HIGH, hook, 600), (pb.URGENCY_HIGH, hook, 1200))
    page = job(org)
    await notify.submit(page)
    first, second = await board.tasks(task_pb2.TASK_STATE_DELAYED)
    assert not (await board.call("RemoveTask", name=first.name)).losses, "the second step still pages"
    refused = await failure(board.call("RemoveTask", name=second.name))
    assert (refused.code, refused.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_NEEDED")
    assert f"{ANA} is not paged for {page.incident}" in refused.message
    assert await world.states() == ["cancelled", "pending"]
    removed = await board.call("RemoveTask", name=second.name, force=True)
    assert [(loss.org_id, loss.about, loss.user) for loss in removed.losses] == [(org, page.incident, ANA)]
    await until(lambda: len(world.escalation.outcomes) == 1)
    [told] = world.escalation.outcomes
    assert (told.page, told.kind) == (page.page, escalation_pb.PAGE_OUTCOME_KIND_FAILED), "escalation goes on"
    assert "removed from the queue by operators/root" in told.reason
    assert await world.states() == ["cancelled", "cancelled"]
    assert await board.tasks(task_pb2.TASK_STATE_DELAYED) == []
    assert world.arrived("ana") == 0


async def test_a_dead_letter_is_retried_with_fresh_attempts_or_removed(
    world: World, notify: Notify, board: Operator
) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    world.hooks.will_answer("ana", [410, 410])
    await notify.submit(job(org))
    await until(lambda: _dead(world, 1))
    dead = await board.only(task_pb2.TASK_STATE_DEAD)
    assert dead.summary == "PERMANENT_FAILURE"
    [attempt] = (await board.call("GetTask", name=dead.name)).history
    assert attempt.text.startswith("attempt 1: permanent")
    assert attempt.HasField("duration")
    wrong = await failure(board.call("PromoteTask", name=dead.name))
    assert wrong.reason == "TASK_STATE"
    await board.call("RetryTask", name=dead.name)
    await until(lambda: _dead(world, 2))
    again = await board.only(task_pb2.TASK_STATE_DEAD)
    assert again.name != dead.name
    await board.call("RemoveTask", name=again.name)
    assert await board.tasks(task_pb2.TASK_STATE_DEAD) == []
    assert await world.states() == ["dead"], "the notification stays, with its reason"


async def test_what_waits_in_a_paused_queue_is_drained(world: World, notify: Notify, board: Operator) -> None:
    org, other = new_org(), new_org()
    for each in (org, other):
        await world.method(each, webhook="ana")
    await board.call("PauseQueue", name=QUEUE)
    await notify.submit(job(org), job(org), job(org, type=pb.NOTIFICATION_TYPE_RESOLUTION), job(other))
    dry = {"name": QUEUE, "org_id": org, "dry_run": True}

    def counts(answer: Any) -> tuple[list[int], list[int]]:
        return [each.count for each in answer.removed], [each.count for each in answer.kept]

    assert counts(await board.call("DrainQueue", **dry)) == ([1], [2]), "pages stay, news goes"
    forced = await board.call("DrainQueue", **dry, force=True)
    assert counts(forced) == ([3], [])
    assert {(loss.org_id, loss.user) for loss in forced.losses} == {(org, ANA)}
    assert await world.states() == ["pending"] * 4
    assert not await world.admin.fetchval("SELECT count(*) FROM audit_entries WHERE method LIKE '%DrainQueue'")
    drained = await board.call("DrainQueue", name=QUEUE, org_id=org, force=True)
    assert (counts(drained), len(drained.losses)) == (([3], []), 2)
    assert await world.states("org_id = $1", org) == ["cancelled"] * 3
    await board.call("ResumeQueue", name=QUEUE)
    await until(lambda: world.arrived("ana") == 1)
    assert await world.states("org_id = $1", org) == ["cancelled"] * 3


async def test_a_scheduled_message_is_promoted_or_removed(world: World, board: Operator, sender: Sender) -> None:
    await world.method(sender.org, email="ana@example.com")
    now = await sender.send(later=HOUR)
    never = await sender.send(later=HOUR, text="Never.")
    assert len(await board.tasks(task_pb2.TASK_STATE_DELAYED)) == 2
    await board.call("PromoteTask", name=f"{QUEUE}/tasks/messages.{now.name.removeprefix('messages/')}")
    await sender.becomes(now, State.MESSAGE_STATE_SENT)
    await board.call("RemoveTask", name=f"{QUEUE}/tasks/messages.{never.name.removeprefix('messages/')}")
    assert await sender.state(never) == State.MESSAGE_STATE_CANCELLED
    assert world.arrived("ana@example.com") == 1


async def test_another_queue_is_not_here_and_a_list_names_a_state(board: Operator) -> None:
    wrong = await failure(board.call("ListTasks", queue="queues/other", state=task_pb2.TASK_STATE_DEAD))
    assert (wrong.code, wrong.reason) == (grpc.StatusCode.NOT_FOUND, "QUEUE_NOT_FOUND")
    unset = await failure(board.call("ListTasks", queue=QUEUE))
    assert "state" in unset.fields


async def test_options_hold_on_every_replica_at_once_and_lose_no_page(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one attempt a page goes to the next method after its first failure, and to the first one again after all."""
    monkeypatch.setattr("tocsin_kit.tasks.options.EVERY", 0.1)
    org = new_org()
    for path in ("ana", "ana-too"):
        await world.method(org, webhook=path)
        world.hooks.will_answer(path, [503])
    async with world.replica(works=False) as one, world.replica() as two:
        asked = Operator(one)
        before = (await asked.call("GetQueue", name=QUEUE)).queue
        assert (before.etag, before.options) == ("v0", before.default_options)
        given = queue_pb.Queue(name=QUEUE, etag=before.etag)
        given.options.attempts, given.options.keep_failed = 1, 1
        given.options.rate_per_minute, given.options.concurrency, given.options.urgent_reserve = 100, 5, 1
        id = str(uuid.uuid4())
        after = (await asked.call("UpdateQueue", queue=given, request_id=id)).queue
        assert (after.etag, after.options.attempts, after.options.concurrency) == ("v1", 1, 5)
        again = (await asked.call("UpdateQueue", queue=given, request_id=id)).queue
        assert (again.etag, again.options) == (after.etag, after.options), "a repeat gets the first answer"
        stale = await failure(asked.call("UpdateQueue", queue=given))
        assert (stale.code, stale.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
        budgets = two.runtime.rpc.budgets
        await until(lambda: budgets.allowed(org, "notifications_per_minute") == 100)
        await two.submit(job(org))

        async def both_wait() -> bool:
            return await world.states("due_time > app_now() + interval '20 s'") == ["pending"] * 2

        await until(both_wait)
        await world.forward(timedelta(hours=1))
        await until(lambda: world.arrived("ana") == world.arrived("ana-too") == 1)  # tried on, and not given up

        async def one_failure_is_shown() -> bool:
            return len(await Operator(two).tasks(task_pb2.TASK_STATE_FAILED)) == 1

        await until(one_failure_is_shown)
        await asked.call("UpdateQueue", queue=queue_pb.Queue(name=QUEUE), update_mask={"paths": ["options"]})
        assert (await asked.call("GetQueue", name=QUEUE)).queue.options == before.options
    entry = await world.row(
        "SELECT resources, before, after FROM audit_entries WHERE method LIKE '%UpdateQueue' LIMIT 1"
    )
    assert entry["resources"] == [QUEUE]
    assert '"attempts": 1' in entry["after"]
    assert '"attempts": 1,' not in entry["before"]


@pytest.mark.parametrize(("fields", "named"), [({"attempts": 0}, "attempts"), ({"concurrency": 4}, "concurrency")])
async def test_an_option_that_would_stop_the_queue_is_refused(
    board: Operator, fields: dict[str, int], named: str
) -> None:
    given = queue_pb.Queue(name=QUEUE)
    for name, value in fields.items():
        setattr(given.options, name, value)
    refused = await failure(board.call("UpdateQueue", queue=given))
    assert (refused.reason, list(refused.fields)) == ("INVALID_FIELD", [f"queue.options.{named}"])


async def _dead(world: World, count: int) -> bool:
    return bool(await world.admin.fetchval("SELECT count(*) = $1 FROM dead_letters", count))


async def test_a_watcher_sees_that_a_message_was_made_and_became_a_notification(
    world: World, notify: Notify, sender: Sender
) -> None:
    await world.method(sender.org, webhook="ana")
    watch = notify.queues.WatchQueue(queue_pb.WatchQueueRequest(name=QUEUE), metadata=operator())
    assert not (await watch.read()).changes, "it has begun"
    later = await sender.send(later=HOUR)
    await sender.send()
    wanted = [
        (task_pb2.TASK_CHANGE_KIND_ADDED, "messages"),
        (task_pb2.TASK_CHANGE_KIND_ADDED, "messages"),
        (task_pb2.TASK_CHANGE_KIND_ADDED, "notifications"),
        (task_pb2.TASK_CHANGE_KIND_COMPLETED, "notifications"),
    ]
    seen: list[task_pb2.TaskChange] = []
    async with asyncio.timeout(30):
        while len([change for change in seen if change.kind != task_pb2.TASK_CHANGE_KIND_ACTIVE]) < len(wanted):
            seen += (await watch.read()).changes
    watch.cancel()
    told = [(each.kind, each.task.name.split("/")[-1].split(".")[0]) for each in seen]
    assert sorted(each for each in told if each[0] != task_pb2.TASK_CHANGE_KIND_ACTIVE) == wanted
    assert {(each.task.org_id, each.task.user) for each in seen} == {(sender.org, ANA)}
    assert later.name.removeprefix("messages/") in seen[0].task.name
    assert seen[0].task.due_time == later.send_time


async def test_a_watch_is_resumed_at_another_replica(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica() as one, world.replica(works=False) as two:
        watch = two.queues.WatchQueue(queue_pb.WatchQueueRequest(name=QUEUE), metadata=operator())
        first = await watch.read()
        assert not first.missed
        watch.cancel()
        await one.submit(job(org))
        await until(lambda: _completed(two, org))
        for replica in (one, two):
            request = queue_pb.WatchQueueRequest(name=QUEUE, cursor=first.cursor)
            watch = replica.queues.WatchQueue(request, metadata=operator())
            assert not (await watch.read()).missed
            answer = await watch.read()
            watch.cancel()
            assert not answer.missed
            assert [each.kind for each in answer.changes][-1] == task_pb2.TASK_CHANGE_KIND_COMPLETED
            assert {each.task.org_id for each in answer.changes} == {org}
        request.cursor = "nonsense"
        refused = await failure(two.queues.WatchQueue(request, metadata=operator()).read())
        assert (refused.reason, [*refused.fields]) == ("CURSOR_INVALID", ["cursor"])
        request.cursor = answer.cursor
        async with Redis.from_url(world.redis_url) as redis:
            await redis.flushdb()
        assert (await two.queues.WatchQueue(request, metadata=operator()).read()).missed


async def _completed(notify: Notify, org: str) -> bool:
    return org in {each.org_id for each in await Operator(notify).tasks(task_pb2.TASK_STATE_COMPLETED)}


async def test_every_replica_shows_what_any_of_them_did(world: World) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    await world.method(org, user="users/ben", webhook="ben")
    world.hooks.will_answer("ben", [410])
    async with world.replica() as one, world.replica(works=False) as two:
        board = Operator(two)
        watch = two.queues.WatchQueue(queue_pb.WatchQueueRequest(name=QUEUE), metadata=operator())
        assert not (await watch.read()).changes, "it has begun"
        await one.submit(job(org), job(org, user="users/ben"))
        seen: set[tuple[int, str]] = set()
        wanted = {
            (kind, user)
            for user, end in ((ANA, task_pb2.TASK_CHANGE_KIND_COMPLETED), ("users/ben", task_pb2.TASK_CHANGE_KIND_DEAD))
            for kind in (task_pb2.TASK_CHANGE_KIND_ADDED, task_pb2.TASK_CHANGE_KIND_ACTIVE, end)
        }
        async with asyncio.timeout(30):
            while not wanted <= seen:
                answer = await watch.read()
                assert not answer.partial
                seen |= {(change.kind, change.task.user) for change in answer.changes}
        watch.cancel()

        async def listed() -> bool:
            return bool(
                await board.tasks(task_pb2.TASK_STATE_COMPLETED) and await board.tasks(task_pb2.TASK_STATE_FAILED)
            )

        await until(listed)
        done = await board.only(task_pb2.TASK_STATE_COMPLETED)
        assert (done.org_id, done.user, done.attempts, done.error) == (org, ANA, 1, "")
        assert done.HasField("finish_time")
        assert done.HasField("duration")
        assert done.HasField("lateness")
        failed = await board.only(task_pb2.TASK_STATE_FAILED)
        assert "410" in failed.error
        for listed_one, ended in ((done, "sent"), (failed, "permanent")):
            looked_at = await board.call("GetTask", name=listed_one.name)
            assert looked_at.task == listed_one
            assert [ended in event.text and event.HasField("duration") for event in looked_at.history] == [True]
            assert not looked_at.losses
        assert await board.tasks(task_pb2.TASK_STATE_FAILED, org_id="another") == []
        activity = await board.call("GetQueueActivity", name=QUEUE)
        assert sum(minute.completed for minute in activity.minutes) == 1
        assert sum(minute.failed for minute in activity.minutes) == 1
        assert activity.duration.count == 2
        assert activity.lateness.p50 == activity.lateness.max
        assert sum(minute.lateness.count for minute in activity.minutes) == activity.lateness.count
        assert sum(minute.duration.count for minute in activity.minutes) == activity.duration.count
        assert not activity.partial


async def test_more_attempts_hold_also_for_pages_whose_senders_vanished(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After five of them it would be given up, or wait for long."""
    monkeypatch.setattr("tocsin_kit.tasks.options.EVERY", 0.1)
    monkeypatch.setattr("tocsin_notify.app.delivery.take_over.RECOVERY_SECONDS", 0.0)
    org = new_org()
    await world.method(org, webhook="ana")
    async with world.replica(works=False) as door:
        await door.submit(job(org))
    async with world.replica() as replica:
        given = queue_pb.Queue(name=QUEUE)
        given.options.attempts, given.options.rate_per_minute = 8, 100
        await Operator(replica).call("UpdateQueue", queue=given)
        await until(lambda: replica.runtime.rpc.budgets.allowed(org, "notifications_per_minute") == 100)

        async def sent() -> bool:
            return await world.states() == ["sent"]

        await until(sent)
        await world.admin.execute(
            "UPDATE notifications SET state = 'sending', send_time = NULL, lease_until = app_now(), attempts = 5, tries = 5"
        )
        await until(lambda: world.arrived("ana") == 2)
