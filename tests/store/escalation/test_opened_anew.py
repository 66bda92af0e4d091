"""Incidents that ingest opens anew because events before were lost: known, unknown, over, or another tenant's."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from tocsin_escalation.app.incidents.apply_events import Arrival, Opening, Result, apply_events
from tocsin_escalation.domain.escalation import State
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Event, Resolved
from tocsin_escalation.store.incidents import standings, timeline

from tests.store.escalation.recorders import ORG, Desk


def anew(arrival: Arrival, sequence: int, **fields: object) -> Arrival:
    opening = arrival.event
    assert isinstance(opening, Opening)
    opening = replace(opening, anew_because="it was lost", **fields)  # type: ignore[arg-type]
    return replace(arrival, sequence=sequence, event=opening)


async def messages(desk: Desk, arrival: Arrival) -> list[tuple[str, str]]:
    async with desk.db.transaction(ORG) as tx:
        entries = await timeline.page(tx, arrival.incident_id, 0, 100)
    return [(entry.kind, entry.message) for entry in entries]


async def test_an_unknown_incident_begins_at_the_number_it_comes_with(desk: Desk) -> None:
    arrival = desk.opening()
    first = anew(arrival, 7, left_out=("labels", "links"))
    eighth = Arrival(ORG, arrival.incident_id, 8, AlertsAdded(3, 1, "more", 1))
    results = await asyncio.gather(*(apply_events(desk.db, desk.effects, [first, eighth]) for _ in range(4)))
    assert sorted(results) == [[Result.APPLIED] * 2, *[[Result.DUPLICATE] * 2] * 3]
    run = await desk.run(arrival.incident_id)
    assert (run.state, run.last_sequence, run.facts.alert_count) == (State.TRIGGERED, 8, 3)
    assert await desk.paged(arrival.incident_id) == [(1, "ana")]
    assert await apply_events(desk.db, desk.effects, [arrival]) == [Result.DUPLICATE], "the first event, much too late"
    assert (await messages(desk, arrival))[:2] == [
        ("opened", "opened anew because it was lost: db down"),
        ("note", "left out, because it could not be taken as it was: labels, links"),
    ]


async def test_its_generation_is_above_all_it_had_before(desk: Desk) -> None:
    incident = await desk.opens()
    before = (await desk.run(incident)).generation
    async with desk.db.system() as tx:
        await tx.execute("DELETE FROM escalations")
    await apply_events(desk.db, desk.effects, [anew(desk.opening(incident), 2)])
    first = (await desk.run(incident)).generation
    async with desk.db.system() as tx:
        await tx.execute("DELETE FROM escalations")
    await desk.passes(minutes=1)
    await apply_events(desk.db, desk.effects, [anew(desk.opening(incident), 2)])
    assert before + 1000 < first < (await desk.run(incident)).generation < 2**31


async def test_a_known_incident_is_brought_up_to_date_and_pages_no_user_again(desk: Desk) -> None:
    arrival = desk.opening(severity=2)
    await apply_events(desk.db, desk.effects, [arrival])
    facts = replace(arrival.event.facts, severity=1, alert_count=9)  # type: ignore[union-attr]
    assert await apply_events(desk.db, desk.effects, [anew(arrival, 5, facts=facts)]) == [Result.APPLIED]
    run = await desk.run(arrival.incident_id)
    assert (run.last_sequence, run.facts.severity, run.facts.alert_count) == (5, 1, 9)
    assert await desk.paged(arrival.incident_id) == [(1, "ana")]


async def test_what_is_over_is_known_and_pages_no_user(desk: Desk) -> None:
    arrival = desk.opening()
    over = anew(arrival, 4, resolved_by="integrations/prom")
    assert await apply_events(desk.db, desk.effects, [over]) == [Result.APPLIED]
    run = await desk.run(arrival.incident_id)
    assert (run.state, run.timer, run.resolved_by) == (State.RESOLVED, None, "integrations/prom")
    assert await desk.paged(arrival.incident_id) == []
    assert await apply_events(desk.db, desk.effects, [arrival]) == [Result.DUPLICATE]


async def test_what_came_before_the_end_of_what_is_over_is_not_missed(desk: Desk) -> None:
    """It was opened, acknowledged, sent again and resolved while escalation was away. Its opening tells the end first."""
    arrival = desk.opening()
    assert isinstance(arrival.event, Opening)
    over = replace(arrival, event=replace(arrival.event, resolved_by="integrations/prom"))
    events: tuple[Event, ...] = (
        Acknowledged("integrations/prom"),
        AlertsAdded(2, 1, "more", 1),
        Resolved("integrations/prom"),
    )
    for sequence, event in enumerate(events, 2):
        later = Arrival(ORG, arrival.incident_id, sequence, event)
        assert await apply_events(desk.db, desk.effects, [over, later]) == [
            Result.APPLIED if sequence == 2 else Result.DUPLICATE,
            Result.APPLIED,
        ]
    run = await desk.run(arrival.incident_id)
    assert (run.state, run.last_sequence) == (State.RESOLVED, 4)
    assert await desk.paged(arrival.incident_id) == []


async def test_a_known_incident_that_is_over_by_now_is_closed(desk: Desk) -> None:
    arrival = desk.opening()
    await apply_events(desk.db, desk.effects, [arrival])
    over = anew(arrival, 4, resolved_by="integrations/prom")
    assert await apply_events(desk.db, desk.effects, [over]) == [Result.APPLIED]
    assert (await desk.run(arrival.incident_id)).state is State.RESOLVED


@pytest.mark.parametrize(
    "event", [lambda: AlertsAdded(2, 1, "more", 1), lambda: Resolved("x")], ids=["alerts_added", "resolved"]
)
async def test_events_of_unknown_incidents_and_of_other_tenants_change_nothing(
    desk: Desk, event: Callable[[], AlertsAdded | Resolved]
) -> None:
    assert await apply_events(desk.db, desk.effects, [Arrival(ORG, uuid4(), 5, event())]) == [Result.UNKNOWN_INCIDENT]
    incident = await desk.opens()
    before = await desk.run(incident)
    stranger = [Arrival("other", incident, 2, event()), anew(desk.opening(incident, org_id="other"), 9)]
    assert await apply_events(desk.db, desk.effects, stranger) == [Result.UNKNOWN_INCIDENT] * 2
    assert await desk.run(incident) == before


async def test_an_opening_out_of_its_turn_leaves_no_trace(desk: Desk) -> None:
    late = replace(desk.opening(), sequence=3)
    assert await apply_events(desk.db, desk.effects, [late]) == [Result.UNKNOWN_INCIDENT]
    async with desk.db.system() as tx:
        assert await tx.fetchval("SELECT count(*) FROM escalations") == 0


async def test_standings_are_told_by_tenant_and_in_pages(desk: Desk) -> None:
    incidents = sorted([await desk.opens() for _ in range(3)])
    await apply_events(desk.db, desk.effects, [Arrival(ORG, incidents[1], 2, Resolved("x"))])
    async with desk.db.system() as tx:
        found = await standings.of(tx, [(ORG, incidents[0]), (ORG, incidents[1]), ("other", incidents[2])])
        first = await standings.open_after(tx, None, 1)
        rest = await standings.open_after(tx, first[0].incident_id, 5)
    assert {key[1]: (each.resolved, each.sequence) for key, each in found.items()} == {
        incidents[0]: (False, 1),
        incidents[1]: (True, 2),
    }
    assert [each.incident_id for each in (*first, *rest)] == [incidents[0], incidents[2]]
