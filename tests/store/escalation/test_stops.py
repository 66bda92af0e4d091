"""What notify is told that stops pages is what escalation had told it to stop when it came to be so."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tocsin.notify.v1.internal_service_pb2 import Cancellation
from tocsin_escalation.domain.events import Acknowledged, Escalated, Event, Merged, Resolved, Snoozed, Unmerged
from tocsin_escalation.store.incidents import standings
from tocsin_escalation.store.incidents.standings import Stop

from tests.store.escalation.recorders import ORG, Desk

ANA = "users/ana"
ACK, UP, END = Acknowledged(ANA), Escalated(ANA), Resolved(ANA)
SNOOZE = Snoozed(ANA, timedelta(minutes=5))
BY_PHONE = Snoozed(ANA, timedelta(minutes=5), via="phone")
INTO = Merged(ANA, uuid4())


async def told(desk: Desk, incident: UUID) -> list[Cancellation]:
    """The cancellations, oldest first, without those that were superseded."""
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT payload FROM outbox WHERE kind = 'cancel' ORDER BY id")
    found = [Cancellation.FromString(row["payload"]) for row in rows]
    return [each for each in found if each.incident == f"incidents/{incident}"]


async def stop_of(desk: Desk, incident: UUID, org_id: str = ORG) -> Stop | None:
    async with desk.db.system() as tx:
        return (await standings.stops(tx, [(org_id, incident)])).get((org_id, incident))


@pytest.mark.parametrize(
    "events",
    [
        [ACK],
        [UP, ACK],
        [SNOOZE],
        [BY_PHONE],
        [INTO],
        [END],
        [ACK, END],
        [UP, SNOOZE, ACK],
        [ACK, SNOOZE],
        [SNOOZE, INTO, END],
    ],
)
async def test_it_is_what_was_told(desk: Desk, events: Sequence[Event]) -> None:
    incident = await desk.opens()
    for event in events:
        await desk.take(incident, event)
    last = (await told(desk, incident))[-1]
    stop = await stop_of(desk, incident)
    assert stop is not None
    assert (stop.generation, stop.final) == (last.generation, not last.spares_lasting)
    assert stop.reason.startswith(last.reason)
    assert await stop_of(desk, incident, "other") is None


@pytest.mark.parametrize("events", [[], [UP], [INTO, Unmerged(ANA)]])
async def test_nothing_is_told_while_people_are_paged(desk: Desk, events: Sequence[Event]) -> None:
    incident = await desk.opens()
    for event in events:
        await desk.take(incident, event)
    assert await stop_of(desk, incident) is None


async def test_nothing_is_told_once_it_pages_again(desk: Desk) -> None:
    incident = await desk.opens()
    await desk.take(incident, SNOOZE)
    await desk.passes(minutes=6)
    assert await desk.sweep() == 1
    assert await stop_of(desk, incident) is None


async def test_of_a_user_who_passes_it_on_only_their_own_pages_are_told_to_stop(desk: Desk) -> None:
    incident = await desk.opens()
    await desk.take(incident, UP)
    [stop] = await told(desk, incident)
    assert (stop.own.user, stop.own.generation) == (ANA, 1)
    assert stop.generation == -1, "a notify that does not know `own` would stop the pages of all users"
    assert await stop_of(desk, incident) is None, "others are paged"
