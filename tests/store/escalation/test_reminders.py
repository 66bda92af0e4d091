"""Reminders on a real database: sent when they are due, by one of many, and not once the incident needs none."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry
from tocsin.notify.v1 import internal_service_pb2, notification_pb2
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.notices import reminders
from tocsin_escalation.app.notices.reminders import Remind, ReminderInput
from tocsin_escalation.app.people import policies
from tocsin_escalation.domain.events import Acknowledged, Resolved, Snoozed, Unacknowledged
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.reminders import ReminderState, Rhythm
from tocsin_escalation.store.notices.reminders import ReminderRow
from tocsin_escalation.store.people import policies as stored_policies
from tocsin_kit.budgets import OBJECTS, Budgets, Limit
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.metrics import Metrics

from tests.store.escalation.merges import merge
from tests.store.escalation.recorders import ORG, POLICY, Desk

HOUR = timedelta(hours=1)


def budgets(most: int = 100) -> Budgets:
    return Budgets([Limit(OBJECTS, most)], Metrics(CollectorRegistry()))


async def create(
    desk: Desk,
    incident: UUID | None,
    *,
    user: str = "ana",
    team: str = "",
    every: timedelta | None = None,
    until_resolved: bool = False,
    delay: timedelta = HOUR,
    org_id: str = ORG,
    most: int = 100,
) -> ReminderRow:
    whom = Target(TargetKind.TEAM, team) if team else Target(TargetKind.USER, user)
    wanted = ReminderInput(incident, whom, "Call the vendor.", Rhythm(every, until_resolved), delay)
    allowed = budgets(most)
    return await desk.db.run(org_id, lambda tx: reminders.create(tx, wanted, "users/ben", allowed))


async def now(desk: Desk, row: ReminderRow) -> ReminderRow:
    return await desk.db.run(row.org_id, lambda tx: reminders.find(tx, row.id))


async def remind(desk: Desk) -> None:
    await Remind(desk.db, desk.effects).everything()


async def sent(desk: Desk) -> list[notification_pb2.NotificationJob]:
    """Every reminder that was handed on, as its row in the outbox says."""
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT payload FROM outbox WHERE kind = 'page' ORDER BY id")
    jobs = [notification_pb2.NotificationJob.FromString(row["payload"]) for row in rows]
    return [job for job in jobs if job.type == notification_pb2.NOTIFICATION_TYPE_MESSAGE]


async def test_a_reminder_comes_once_at_its_time(desk: Desk) -> None:
    incident = await desk.opens()
    row = await create(desk, incident)
    await desk.passes(minutes=59)
    await remind(desk)
    assert await sent(desk) == []
    await desk.passes(minutes=2)
    await asyncio.gather(remind(desk), remind(desk), remind(desk))
    [job] = await sent(desk)
    assert (job.user, job.title, job.text) == ("users/ana", "Reminder: db down", "Call the vendor.")
    assert (job.incident, job.about, job.actor) == (f"incidents/{incident}", f"incidents/{incident}", "users/ben")
    assert job.generation == (await desk.run(incident)).generation, "what stops its pages stops the reminder"
    assert job.planned_time.ToDatetime().replace(tzinfo=None) == (row.next_time or row.create_time).replace(tzinfo=None)
    assert desk.effects.paging.jobs.count(job) == 1  # type: ignore[attr-defined]
    after = await now(desk, row)
    assert (after.state, after.sent_count, after.next_time) == (ReminderState.DONE, 1, None)
    await desk.passes(hours=9)
    await remind(desk)
    assert len(await sent(desk)) == 1


async def test_one_that_comes_again_and_again_ends_with_the_acknowledge(desk: Desk) -> None:
    incident = await desk.opens()
    row = await create(desk, incident, every=HOUR)
    for _ in range(3):
        await desk.passes(hours=1)
        await remind(desk)
    assert len({job.page for job in await sent(desk)}) == 3
    await desk.take(incident, Acknowledged("users/ana"))
    await desk.passes(hours=1)
    await remind(desk)
    after = await now(desk, row)
    assert (after.state, after.state_reason) == (
        ReminderState.STOPPED,
        "the incident was acknowledged by users/ana",
    )
    await desk.take(incident, Unacknowledged("users/ana"))
    await desk.passes(hours=5)
    await remind(desk)
    assert len(await sent(desk)) == 3, "it has ended"


@pytest.mark.parametrize("every", [None, HOUR])
async def test_who_reads_one_is_told_at_once_that_its_incident_needs_it_no_more(
    desk: Desk, every: timedelta | None
) -> None:
    incident = await desk.opens()
    row = await create(desk, incident, every=every)

    async def read() -> tuple[ReminderState, str, bool]:
        found = await now(desk, row)
        [told] = await desk.db.run(ORG, lambda tx: reminders.as_they_stand(tx, [found]))
        return told.state, told.state_reason, told.next_time is not None

    waits = (ReminderState.SCHEDULED, "", True)
    await desk.take(incident, Acknowledged("users/ana"))
    held = (ReminderState.STOPPED, "the incident was acknowledged by users/ana", False)
    assert await read() == (waits if every is None else held)
    await desk.take(incident, Unacknowledged("users/ana"))
    assert await read() == waits
    await desk.take(incident, Resolved("users/ana"))
    assert await read() == (ReminderState.STOPPED, "the incident was resolved by users/ana", False)
    with pytest.raises(TocsinError, match="has ended"):
        await desk.db.run(ORG, lambda tx: reminders.snooze(tx, row.id, HOUR))


async def test_the_holder_is_reminded_of_what_is_open_until_it_is_resolved(desk: Desk) -> None:
    incident = await desk.opens()
    await desk.take(incident, Acknowledged("users/ana"))
    row = await create(desk, incident, every=HOUR, until_resolved=True)
    assert row.rhythm == Rhythm(HOUR, until_resolved=True)
    for _ in range(2):
        await desk.passes(hours=1)
        await remind(desk)
    first, second = await sent(desk)
    assert first.page != second.page
    assert first.outlasts_acknowledge
    assert second.outlasts_acknowledge
    await desk.take(incident, Resolved("users/ana"))
    await desk.passes(hours=1)
    await remind(desk)
    assert len(await sent(desk)) == 2
    assert (await now(desk, row)).state_reason == "the incident was resolved by users/ana"


async def test_one_of_nothing_but_its_text_comes_to_each_of_a_team_until_it_is_stopped(desk: Desk) -> None:
    async with desk.db.system() as tx:
        await tx.execute(
            "INSERT INTO users (org_id, id, display_name, time_zone, disabled) VALUES ($1, 'cem', '', 'UTC', true)", ORG
        )
        await tx.execute(
            "INSERT INTO teams (org_id, id, display_name, members) VALUES ($1, 'web', '', '{ana,ben,cem}')", ORG
        )
    row = await create(desk, None, team="web", every=HOUR)
    await desk.passes(hours=1)
    await asyncio.gather(remind(desk), remind(desk))
    first = await sent(desk)
    assert [(job.user, job.title, job.incident, job.about) for job in first] == [
        ("users/ana", "Reminder: Call the vendor.", "", ""),
        ("users/ben", "Reminder: Call the vendor.", "", ""),
    ]
    assert len({job.page for job in first}) == 2
    await desk.db.run(ORG, lambda tx: reminders.snooze(tx, row.id, 3 * HOUR))
    await desk.passes(hours=2)
    await remind(desk)
    assert len(await sent(desk)) == 2, "it was moved"
    await desk.passes(hours=1)
    await remind(desk)
    assert len(await sent(desk)) == 4
    await desk.db.run(ORG, lambda tx: reminders.stop(tx, row.id, "users/ben"))
    await desk.passes(hours=9)
    await remind(desk)
    assert len(await sent(desk)) == 4
    after = await now(desk, row)
    assert (after.state, after.state_reason, after.sent_count) == (ReminderState.STOPPED, "stopped by users/ben", 2)


async def test_a_policy_tells_of_what_is_unresolved_after_hours_acknowledged_or_not(desk: Desk) -> None:
    told = replace(POLICY, id="long", unresolved_after=4 * HOUR, unresolved_target=Target(TargetKind.USER, "ben"))
    await desk.db.run(ORG, lambda tx: policies.create(tx, told, "Long", False, Computations()))
    held, over = await desk.opens(policy="long"), await desk.opens(policy="long")
    await desk.opens()
    await desk.take(held, Acknowledged("users/ana"))
    await desk.passes(hours=3)
    await remind(desk)
    assert await sent(desk) == []
    await desk.take(over, Resolved("users/ana"))
    await desk.passes(hours=1, seconds=1)
    await remind(desk)
    [job] = await sent(desk)
    assert (job.incident, job.user, job.actor) == (f"incidents/{held}", "users/ben", "policies/long")
    assert (job.title, job.text) == ("Reminder: db down", "The incident is acknowledged.")
    assert job.outlasts_acknowledge
    async with desk.db.transaction(ORG) as tx:
        read = (await stored_policies.get(tx, "long")).policy  # type: ignore[union-attr]
    assert read == told, "it is kept with its policy"


async def test_only_the_end_of_its_incident_stops_one_that_comes_once(desk: Desk) -> None:
    """An acknowledge while notify tries again must not swallow what it would not have stopped a minute before."""
    incident = await desk.opens()
    await create(desk, incident)
    await create(desk, incident, user="ben", every=HOUR)
    await desk.passes(hours=1, seconds=1)
    await remind(desk)
    lasting = {job.user: job.outlasts_acknowledge for job in await sent(desk)}
    assert lasting == {"users/ana": True, "users/ben": False}
    await desk.take(incident, Snoozed("users/ana", HOUR))
    await desk.take(incident, Acknowledged("users/ana"))
    await desk.take(incident, Resolved("users/ana"))
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT payload FROM outbox WHERE kind = 'cancel' ORDER BY id")
    orders = [internal_service_pb2.Cancellation.FromString(row["payload"]) for row in rows]
    assert [(re.sub(" until .+ UTC", "", order.reason), order.spares_lasting) for order in orders] == [
        ("snoozed by users/ana", True),
        ("acknowledged by users/ana", True),
        ("resolved by users/ana", False),
    ]


async def test_one_sweep_leaves_nothing_behind_that_is_due(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a reminder is late by the sweep's pause and its round at most, however many are due."""
    monkeypatch.setattr(reminders, "BATCH", 2)
    incident = await desk.opens()
    rows = [await create(desk, incident, delay=HOUR + index * timedelta(milliseconds=1)) for index in range(5)]
    later = await create(desk, incident, delay=2 * HOUR)
    await desk.passes(hours=1, seconds=1)
    await remind(desk)
    assert [(await now(desk, row)).state for row in rows] == [ReminderState.DONE] * 5
    assert (await now(desk, later)).state is ReminderState.SCHEDULED


async def test_it_is_silent_while_the_incident_is_snoozed(desk: Desk) -> None:
    incident = await desk.opens()
    row = await create(desk, incident, every=HOUR)
    await desk.take(incident, Snoozed("users/ana", timedelta(hours=4)))
    await desk.passes(hours=1, seconds=1)
    await remind(desk)
    after = await now(desk, row)
    assert (await sent(desk), after.state) == ([], ReminderState.SCHEDULED)
    assert row.next_time is not None
    assert after.next_time == row.next_time + HOUR


@pytest.mark.parametrize("every", [None, HOUR])
async def test_a_resolved_incident_needs_no_reminder(desk: Desk, every: timedelta | None) -> None:
    incident = await desk.opens()
    row = await create(desk, incident, every=every)
    await desk.take(incident, Resolved("users/ben"))
    await desk.passes(hours=1, seconds=1)
    await remind(desk)
    assert (await sent(desk), (await now(desk, row)).state) == ([], ReminderState.STOPPED)
    with pytest.raises(TocsinError) as caught:
        await create(desk, incident, every=every)
    assert caught.value.reason_name == "INCIDENT_RESOLVED"


async def test_what_was_missed_while_everything_was_down_is_made_up_for_by_one(desk: Desk) -> None:
    incident = await desk.opens()
    row = await create(desk, incident, every=HOUR)
    await desk.passes(hours=7, minutes=30)
    await remind(desk)
    assert len(await sent(desk)) == 1
    after = await now(desk, row)
    assert row.next_time is not None
    assert after.next_time == row.next_time + 7 * HOUR


async def test_a_reminder_that_is_snoozed_moves_and_one_that_is_stopped_does_not_come(desk: Desk) -> None:
    incident = await desk.opens()
    moved, stopped = await create(desk, incident), await create(desk, incident, user="ben")
    later = await desk.db.run(ORG, lambda tx: reminders.snooze(tx, moved.id, 3 * HOUR))
    assert later.next_time is not None
    assert moved.next_time is not None
    assert later.next_time - moved.next_time >= HOUR
    ended = await desk.db.run(ORG, lambda tx: reminders.stop(tx, stopped.id, "users/ana"))
    again = await desk.db.run(ORG, lambda tx: reminders.stop(tx, stopped.id, "users/ben"))
    assert (ended.state_reason, again) == ("stopped by users/ana", ended)
    await desk.passes(hours=2)
    await remind(desk)
    assert await sent(desk) == []
    await desk.passes(hours=2)
    await remind(desk)
    assert [job.user for job in await sent(desk)] == ["users/ana"]
    with pytest.raises(TocsinError) as caught:
        await desk.db.run(ORG, lambda tx: reminders.snooze(tx, moved.id, HOUR))
    assert caught.value.reason_name == "ALREADY_ENDED"


async def test_stopping_at_the_instant_of_sending_either_stops_it_or_finds_it_sent(desk: Desk) -> None:
    incident = await desk.opens()
    rows = [await create(desk, incident) for _ in range(20)]
    await desk.passes(hours=1, seconds=1)

    async def stop(row: ReminderRow) -> ReminderRow:
        return await desk.db.run(ORG, lambda tx: reminders.stop(tx, row.id, "users/ana"))

    ended, *_ = await asyncio.gather(asyncio.gather(*map(stop, rows)), remind(desk), remind(desk))
    await remind(desk)
    done = sum(row.state is ReminderState.DONE for row in ended)
    assert len(await sent(desk)) == done
    assert done + sum(row.state is ReminderState.STOPPED for row in ended) == len(rows)


async def test_what_cannot_be_reminded_of_is_refused(desk: Desk) -> None:
    incident = await desk.opens()

    async def refused(**options: object) -> str:
        with pytest.raises(TocsinError) as caught:
            await create(desk, **{"incident": incident, **options})  # type: ignore[arg-type]
        return caught.value.reason_name

    assert await refused(incident=uuid4()) == "INCIDENT_NOT_FOUND"
    assert await refused(org_id="others") == "INCIDENT_NOT_FOUND", "another tenant's incident does not exist"
    assert await refused(user="zoe") == "USER_NOT_FOUND"
    await create(desk, incident)
    assert await refused(most=1) == "LIMIT_REACHED"
    await desk.take(incident, Acknowledged("users/ana"))
    assert await refused(every=HOUR) == "INCIDENT_STATE"
    await create(desk, incident)
    calls: list[Callable[[Tx], Awaitable[ReminderRow]]] = [
        lambda tx: reminders.find(tx, uuid4()),
        lambda tx: reminders.snooze(tx, uuid4(), HOUR),
        lambda tx: reminders.stop(tx, uuid4(), "users/ana"),
    ]
    for call in calls:
        with pytest.raises(TocsinError) as caught:
            await desk.db.run(ORG, call)
        assert caught.value.reason_name == "REMINDER_NOT_FOUND"


async def test_what_ends_the_incident_into_which_it_was_merged_ends_its_reminders(desk: Desk) -> None:
    """They went on for ever: people answer the other incident, and a merged one is never acknowledged."""
    source, target = await desk.opens(title="db down"), await desk.opens(title="rack down")
    row = await create(desk, source, every=HOUR)
    await merge(desk, source, target)
    await desk.passes(hours=1)
    await remind(desk)
    [job] = await sent(desk)
    assert (job.incident, job.about, job.title) == (f"incidents/{target}", f"incidents/{target}", "Reminder: rack down")
    assert job.generation == (await desk.run(target)).generation, "what stops the pages of that one stops the reminder"
    await desk.take(target, Acknowledged("users/ana"))
    await desk.passes(hours=1)
    await remind(desk)
    after = await now(desk, row)
    assert (after.state, after.state_reason) == (ReminderState.STOPPED, "the incident was acknowledged by users/ana")
    assert len(await sent(desk)) == 1
    with pytest.raises(TocsinError, match="acknowledged by users/ana"):
        await create(desk, source, every=HOUR)


@pytest.mark.parametrize(
    "gone", ["UPDATE users SET disabled = true WHERE id = 'ana'", "DELETE FROM users WHERE id = 'ana'"]
)
async def test_a_user_who_is_disabled_or_deleted_gets_none_and_it_says_so(desk: Desk, gone: str) -> None:
    row = await create(desk, None, user="ana", every=HOUR)
    async with desk.db.system() as tx:
        await tx.execute(gone)
    await desk.passes(hours=1)
    await remind(desk)
    assert await sent(desk) == []
    after = await now(desk, row)
    assert (after.state, after.sent_count) == (ReminderState.SCHEDULED, 0)
    assert after.state_reason == "nobody got the last one: users/ana is disabled or was deleted"
