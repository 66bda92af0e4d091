"""Once a cancel has returned, no provider call starts (I5): raced, frozen, and by every way a call can begin."""

import asyncio
import os
import random
import signal
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from structlog.testing import capture_logs
from tocsin.notify.v1 import internal_service_pb2 as internal_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.app.delivery.calls import Calls, Start
from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.webhook import WebhookChannel
from tocsin_notify.domain.attempt import Outcome
from tocsin_notify.store.delivery import gatekeeper
from tocsin_notify.store.delivery.gate import PROOF_SECONDS, incident_key
from tocsin_notify.store.delivery.gatekeeper import ENDING
from tocsin_testkit.busy import within
from tocsin_testkit.notify_world import internal

from tests.store.notify.support import Notify, World, job, new_org, refused, until


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """When provider calls started, by incident, on any replica of this process."""
    seen: dict[str, list[float]] = defaultdict(list)
    real = WebhookChannel.send

    async def send(self: WebhookChannel, delivery: Delivery, permit: Permit) -> Outcome:
        seen[delivery.job.incident].append(time.monotonic())
        return await real(self, delivery, permit)

    monkeypatch.setattr(WebhookChannel, "send", send)
    return seen


@pytest.fixture
def gap(monkeypatch: pytest.MonkeyPatch) -> Iterator["Gap"]:
    """Holds calls in the gap between the commit of their claim and their start, until it is opened."""
    made = Gap()
    real = Calls.start

    async def start(calls: Calls, starting: Sequence[Start], since: float) -> None:
        if starting:
            made.reached.set()
            await made.open.wait()
        await real(calls, starting, since)

    monkeypatch.setattr(Calls, "start", start)
    yield made
    made.open.set()


class Gap:
    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()


async def test_a_cancel_is_not_confirmed_while_a_session_that_held_one_up_is_being_ended(
    world: World, notify: Notify
) -> None:
    """The process of that session may still begin a call, although its locks are free."""
    org = new_org()
    await world.admin.execute("SELECT pg_advisory_lock($1)", ENDING)
    try:
        cancelling = asyncio.create_task(notify.cancel(org, uuid.uuid4()))
        await until(lambda: _waits(world))
        assert not cancelling.done()
    finally:
        await world.admin.execute("SELECT pg_advisory_unlock($1)", ENDING)
    await cancelling


async def test_a_cancel_is_not_confirmed_until_a_second_after_the_session_that_held_it_up_is_gone(world: World) -> None:
    """A server that is slow to end a session may still have answered its process, which may then begin a call."""
    org, incident = new_org(), uuid.uuid4()
    stuck = await asyncpg.connect(world.database_url)
    await stuck.execute("SELECT pg_advisory_lock_shared($1)", incident_key(org, incident))
    backend = stuck.get_server_pid()
    async with world.replica(works=False) as door:
        cancelling = asyncio.create_task(insists(lambda: door.cancel(org, incident)))
        os.kill(backend, signal.SIGSTOP)
        try:
            await until(lambda: _sessions_are_being_ended(world))
            seen = asyncio.create_task(until(lambda: _none_is_being_ended(world)))
            done, _ = await asyncio.wait([seen, cancelling], timeout=1.5, return_when=asyncio.FIRST_COMPLETED)
            seen.cancel()
            assert not done, "the session was given up before it was gone"
        finally:
            goes_on = time.monotonic()
            os.kill(backend, signal.SIGCONT)
        await cancelling
        assert time.monotonic() - goes_on >= PROOF_SECONDS
    await until(stuck.is_closed)


async def test_a_session_that_does_not_end_holds_up_only_its_own_incidents(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gatekeeper, "_END_SECONDS", 0.3)
    org, incident = new_org(), uuid.uuid4()
    stuck = await asyncpg.connect(world.database_url)
    await stuck.execute("SELECT pg_advisory_lock_shared($1)", incident_key(org, incident))
    async with world.replica(works=False) as door:
        os.kill(stuck.get_server_pid(), signal.SIGSTOP)
        try:
            with capture_logs() as lines:
                cancelling = asyncio.create_task(insists(lambda: door.cancel(org, incident)))
                await until(lambda: any(line["event"] == "standing_sessions_left" for line in lines))
                for _ in range(3):
                    await door.cancel(org, uuid.uuid4())
                    await asyncio.sleep(0.3)  # a look of the gatekeeper
                assert not cancelling.done()
            assert [line["event"] for line in lines].count("standing_sessions_left") == 1, "it is left alone"
        finally:
            os.kill(stuck.get_server_pid(), signal.SIGCONT)
        await cancelling


async def _sessions_are_being_ended(world: World) -> bool:
    return bool(
        await world.admin.fetchval(
            """SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                 AND (classid::bigint << 32) | objid::bigint = $1""",
            ENDING,
        )
    )


async def _none_is_being_ended(world: World) -> bool:
    return not await _sessions_are_being_ended(world)


async def test_a_cancel_that_has_to_wait_holds_no_lock_that_comes_later_in_their_order(
    world: World, notify: Notify
) -> None:
    """Two that each held what the other one waits for would be a deadlock."""
    org = new_org()
    first, second = sorted((uuid.uuid4() for _ in range(2)), key=lambda each: incident_key(org, each))
    await world.admin.execute("SELECT pg_advisory_lock_shared($1)", incident_key(org, first))
    try:
        request = internal_pb.CancelNotificationsRequest(
            cancellations=[
                internal_pb.Cancellation(org_id=org, incident=f"incidents/{each}", generation=1)
                for each in (first, second)
            ]
        )
        cancelling = asyncio.ensure_future(notify.internal.CancelNotifications(request, metadata=internal()))
        await until(lambda: _waits(world))
        assert await world.admin.fetchval("SELECT pg_try_advisory_lock($1)", incident_key(org, second))
    finally:
        await world.admin.execute("SELECT pg_advisory_unlock_all()")
    await cancelling


async def _waits(world: World) -> bool:
    return bool(await world.admin.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"))


async def test_a_cancel_waits_for_a_call_in_the_gap_on_another_replica(world: World, gap: Gap) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    async with world.replica() as sender, world.replica(works=False) as other:
        try:
            submitting = asyncio.create_task(sender.submit(job(org, incident)))
            await gap.reached.wait()
            cancelling = asyncio.create_task(other.cancel(org, incident))
            done, _ = await asyncio.wait([cancelling], timeout=0.3)
            assert not done, "the cancel returned while a call that nobody can stop had not started"
            gap.open.set()
            answer = await cancelling
            returned = time.monotonic()
            # None crossed when the call was over before the cancel came to count, as on a slow machine.
            assert answer.cancelled == 0
            assert answer.crossed in (0, 1)
            await submitting

            async def over() -> bool:
                return await world.states() in (["sent"], ["cancelled"])

            await until(over)
            # A gap of more than half a second, on a slow machine, makes the call ask again: then it does not begin.
            assert all(message.at < returned for message in world.inbox.messages)
        finally:
            gap.open.set()


async def test_a_sender_that_stays_in_the_gap_is_ended_and_calls_no_user(world: World, gap: Gap) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    async with world.replica() as sender, world.replica(works=False) as other:
        submitting = asyncio.create_task(sender.submit(job(org, incident)))
        await gap.reached.wait()
        began = time.monotonic()
        await other.cancel(org, incident)
        assert time.monotonic() - began < within(5.0)
        gap.open.set()
        assert await submitting == 1, "it was stored, and then stopped"

        async def stopped() -> bool:
            return await world.states() == ["cancelled"]

        await until(stopped)
        assert world.arrived("ana") == 0


@pytest.mark.parametrize("holder", ["a claim", "another cancel"])
async def test_a_session_that_holds_up_a_cancel_is_ended_with_any_lock_it_holds(world: World, holder: str) -> None:
    """A session that stands still with the lock of the incident, or with its fence."""
    org, incident = new_org(), uuid.uuid4()
    stuck = await asyncpg.connect(world.database_url, server_settings={"tocsin.org_id": "*"})
    if holder == "a claim":
        await stuck.execute("SELECT pg_advisory_lock_shared($1)", incident_key(org, incident))
    else:
        await stuck.execute("BEGIN")
        await stuck.execute(
            "INSERT INTO cancel_fences (org_id, incident, generation, reason) VALUES ($1, $2, 1, '')", org, incident
        )
    async with world.replica(works=False) as one, world.replica(works=False) as two:
        began = time.monotonic()
        await asyncio.gather(*(each.cancel(org, incident) for each in (one, two, one)))
        assert time.monotonic() - began < within(5.0)
    assert stuck.is_closed()


async def test_a_provider_that_hangs_holds_up_no_cancel(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    world.hooks.hang["ana"] = asyncio.Event()
    await notify.submit(job(org, incident))
    await until(lambda: world.hooks.held["ana"])
    began = time.monotonic()
    answer = await notify.cancel(org, incident)
    assert time.monotonic() - began < within(8.0), "before the hanging call timed out"
    assert (answer.cancelled, answer.crossed) == (0, 1)
    world.hooks.will_answer("ana", [503])
    world.hooks.hang["ana"].set()

    async def settled() -> bool:
        return await world.states() == ["cancelled"]

    await until(settled)
    row = await world.row("SELECT state_reason, attempts FROM notifications")
    assert row["attempts"] == 1, "the call that crossed failed and is not tried again"
    assert "acknowledged by users/ana" in row["state_reason"]
    assert "503" in row["state_reason"]


async def test_what_arrives_later_is_stored_as_cancelled(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    await notify.cancel(org, incident, generation=3, reason="resolved by users/bob")
    await notify.cancel(org, incident, generation=2, reason="an older one, late")
    assert await notify.submit(job(org, incident, generation=3), job(org, incident, generation=1)) == 2
    rows = await world.admin.fetch("SELECT state, state_reason FROM notifications")
    assert [tuple(row) for row in rows] == [("cancelled", "resolved by users/bob")] * 2
    await notify.submit(job(org, incident, generation=4))
    await world.inbox.wait_for(lambda m: m.address == "ana", "the page of the next generation")
    assert world.arrived("ana") == 1


async def test_delayed_steps_and_retries_are_cancelled(
    world: World, notify: Notify, starts: dict[str, list[float]]
) -> None:
    org, incident = new_org(), uuid.uuid4()
    hook = await world.method(org, webhook="ana")
    retrying = await world.method(org, "users/bob", webhook="bob")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 60))
    await notify.set_rules(org, "users/bob", (pb.URGENCY_HIGH, retrying, 0))
    world.hooks.answers["bob"] = [(503, {"Retry-After": "30"})]
    await notify.submit(job(org, incident), job(org, incident, user="users/bob"))

    await refused(world, org)
    assert (await notify.cancel(org, incident)).cancelled == 2
    assert (await notify.cancel(org, incident)).cancelled == 0, "repeating changes nothing"
    await world.forward(timedelta(hours=1))
    other = await notify.submit(job(org, user="users/bob"))
    assert other == 1
    await until(lambda: world.arrived("bob") == 1)
    assert await world.states("incident = $1", incident) == ["cancelled", "cancelled"]
    assert len(starts[f"incidents/{incident}"]) == 1


async def test_a_row_that_slipped_past_the_cancel_is_stopped_by_the_fence_when_it_is_due(
    world: World, notify: Notify, starts: dict[str, list[float]]
) -> None:
    """Such as the failover of a call that crossed, written by a transaction that began before the fence."""
    org, incident = new_org(), uuid.uuid4()
    await world.method(org, webhook="ana")
    await notify.cancel(org, incident)
    await notify.submit(job(org, incident))
    await world.admin.execute("UPDATE notifications SET state = 'pending', state_reason = '', due_time = app_now()")

    async def stopped() -> bool:
        row = await world.row("SELECT state, state_reason FROM notifications")
        return bool(tuple(row) == ("cancelled", "acknowledged by users/ana"))

    await until(stopped)
    assert not starts


async def test_a_call_that_crossed_and_failed_for_good_does_not_fail_over(world: World, notify: Notify) -> None:
    org, incident = new_org(), uuid.uuid4()
    hook = await world.method(org, webhook="ana")
    await world.method(org, email="ana@example.com")
    await notify.set_rules(org, "users/ana", (pb.URGENCY_HIGH, hook, 0))
    world.hooks.hang["ana"] = asyncio.Event()
    await notify.submit(job(org, incident))
    await until(lambda: world.hooks.held["ana"])
    await notify.cancel(org, incident)
    world.hooks.will_answer("ana", [410])
    world.hooks.hang["ana"].set()

    async def settled() -> bool:
        return await world.states() == ["cancelled"]

    await until(settled)
    assert await world.admin.fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_another_tenants_incident_of_the_same_id_goes_on(world: World, notify: Notify) -> None:
    org, other, incident = new_org(), new_org(), uuid.uuid4()
    await world.method(other, webhook="theirs")
    await notify.cancel(org, incident)
    await notify.submit(job(other, incident))
    await world.inbox.wait_for(lambda m: m.address == "theirs", "the page of the other tenant")


async def insists(call: Callable[[], Awaitable[object]]) -> None:
    """Until it is OK, as escalation does: on a busy machine a session may be ended, or a cancel be told to come again."""
    async with asyncio.timeout(within(60.0)):
        while True:
            try:
                await call()
            except grpc.aio.AioRpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                    raise
                await asyncio.sleep(0.1)
            else:
                return


async def test_raced_against_two_replicas_no_call_starts_after_the_answer(
    world: World, starts: dict[str, list[float]]
) -> None:
    """Pages by direct start, by hint, by sweep and by retry, cancelled at random moments through either replica."""
    org, rng = new_org(), random.Random(7)
    for number in range(40):
        await world.method(org, f"users/u{number}", webhook=f"u{number}")
        world.hooks.will_answer(f"u{number}", [503] * rng.randrange(4))
    returned: dict[str, float] = {}
    async with world.replica(backoff_base_seconds=0.01) as one, world.replica(backoff_base_seconds=0.01) as two:

        async def incident(number: int) -> None:
            id = uuid.UUID(int=number + 1)
            pages = [job(org, id, user=f"users/u{(number + step) % 40}") for step in range(3)]
            door, other = rng.choice((one, two)), rng.choice((one, two))
            submitting = asyncio.create_task(insists(lambda: door.submit(*pages)))
            await asyncio.wait([submitting], timeout=rng.random() * 0.1)
            await insists(lambda: other.cancel(org, id))
            returned[f"incidents/{id}"] = time.monotonic()
            await submitting

        for wave in range(4):
            await asyncio.gather(*(incident(wave * 30 + number) for number in range(30)))

        async def quiet() -> bool:
            return not {"pending", "sending"} & set(await world.states())

        await until(quiet)
    late = {name: [at - returned[name] for at in when if at > returned[name]] for name, when in starts.items()}
    assert not any(late.values()), f"calls started after their cancel had returned: {late}"
    assert any(starts.values()), "some calls were faster than their cancel"
    states: dict[str, int] = defaultdict(int)
    for state in await world.states():
        states[state] += 1
    assert states["cancelled"] and states["sent"], dict(states)  # noqa: PT018


async def test_the_gate_lets_go_of_everything(world: World, notify: Notify) -> None:
    org = new_org()
    await world.method(org, webhook="ana")
    await asyncio.gather(*(notify.submit(job(org)) for _ in range(50)))

    async def free() -> bool:
        held: Any = await world.admin.fetchval(
            """SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
               WHERE l.locktype = 'advisory' AND a.datname = current_database()
                 AND a.application_name <> 'notify-presence'"""
        )
        return bool(held == 0)

    await until(free)
