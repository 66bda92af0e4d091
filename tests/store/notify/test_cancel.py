"""Once a cancel has returned, no provider call starts (I5): raced, frozen, and by every way a call can begin."""

import asyncio
import itertools
import random
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from tocsin.notify.v1 import internal_service_pb2 as internal_pb
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_notify.app.delivery.calls import Calls, Start
from tocsin_notify.channels.base import Delivery, Permit
from tocsin_notify.channels.webhook import WebhookChannel
from tocsin_notify.domain.attempt import Outcome
from tocsin_notify.store.delivery.gate import incident_key
from tocsin_testkit.busy import within
from tocsin_testkit.notify_world import internal

from tests.store.notify.support import Notify, World, insists, job, new_org, refused, until, waits_for_a_lock


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
        await until(lambda: waits_for_a_lock(world))
        assert await world.admin.fetchval("SELECT pg_try_advisory_lock($1)", incident_key(org, second))
    finally:
        await world.admin.execute("SELECT pg_advisory_unlock_all()")
    await cancelling


async def test_a_cancel_waits_for_a_call_in_the_gap_on_another_replica(
    world: World, gap: Gap, starts: dict[str, list[float]]
) -> None:
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
            assert all(began < returned for began in itertools.chain(*starts.values()))
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
