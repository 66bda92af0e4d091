"""At any instant the pager, lists, the calendar feed, simulations, checks and explanations name the same people."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Final
from uuid import UUID

import icalendar
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.foresight import foresee
from tocsin_escalation.app.foresight.check_policy import PolicyCheck, check_policy
from tocsin_escalation.app.foresight.explain import explain_page
from tocsin_escalation.app.incidents.apply_events import Opening, Result, apply_events
from tocsin_escalation.app.people import people, policies
from tocsin_escalation.app.schedules import calendar_feeds, overrides, schedules, swaps
from tocsin_escalation.app.schedules.calendar_feeds import CalendarFeeds
from tocsin_escalation.domain.decision import NoteKind
from tocsin_escalation.domain.explanation import Contact, Verdict
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import FixedShift, Holidays, Layer, Mode, Scope, Segment, Turn, Unit
from tocsin_escalation.domain.simulate import SimulatedEntry
from tocsin_escalation.store.incidents import timeline
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.store.schedules import calendar_imports as imports
from tocsin_escalation.store.schedules.absences import AbsenceRow
from tocsin_escalation.store.schedules.calendar_feeds import FeedRow
from tocsin_escalation.store.schedules.calendar_imports import ImportRow
from tocsin_escalation.store.schedules.holiday_calendars import days_of
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_escalation.store.schedules.swaps import SwapRow
from tocsin_kit.db.pool import Tx
from tocsin_kit.ids import new_id

from tests.store.escalation.ahead import YEAR
from tests.store.escalation.recorders import ORG, Desk
from tests.unit.escalation.schedules.writing import group, local

BEGIN: Final = datetime(YEAR, 12, 21, 6, tzinfo=UTC)
"""Christmas and the new year are ahead, and two weekends."""
DAYS: Final = 16
INSTANTS: Final = 24
ZONE: Final = "Europe/Berlin"
USERS: Final = ("ana", "ben", "cem", "dora", "eva", "finn")
POLICY: Final = Policy("web", (Level((Target(TargetKind.SCHEDULE, "web"),), timedelta(minutes=5)),))


class Notify:
    """Everybody can be reached."""

    async def unreachable(self, org_id: str, users: Sequence[str]) -> dict[str, str]:
        return {}

    async def describe(self, org_id: str, incident_id: UUID, user: str) -> Contact:
        raise AssertionError("nobody asks for deliveries")


def day(number: float) -> datetime:
    return BEGIN + timedelta(days=number)


async def set_up(desk: Desk) -> None:
    """A schedule with a bit of everything: days in turn, holidays, a calendar of others, a swap, overrides, an absence."""
    # Not within the transaction, which may do nothing for five seconds at most: a busy machine computes them for as long.
    holidays = Holidays("DE", "BY", True, days_of("DE", "BY"))

    async def work(tx: Tx) -> None:
        for user in USERS:
            if user not in ("ana", "ben"):
                await people.create_user(tx, UserRow(user, user, "", False))
        days = Layer(
            "days", (Turn(Unit.DAY, 1),), local(f"{YEAR}-12-01 09:00"), (group("ana"), group("ben"), group("cem")), ZONE
        )
        feasts = Layer(
            "feasts",
            (Turn(Unit.DAY, 1),),
            local(f"{YEAR}-12-01 00:00"),
            (group("dora"),),
            ZONE,
            rank=2,
            holidays=holidays,
        )
        await schedules.create(tx, ScheduleRow("web", "Web", "", ZONE, True, (days, feasts)))
        await policies.create(tx, POLICY, "Web", False, Computations())
        shifts = [FixedShift(minute_of(day(n)), minute_of(day(n + 0.25)), ("eva",)) for n in (0.5, 1.6, 3.7, 8.1, 12.3)]
        row = ImportRow(new_id(), "web", "a rota", b"", "example.com", "", 3, Mode.ADD, {}, "users/ana")
        await imports.insert(tx, row)
        [due] = await imports.claim(tx, 1e9, 5)
        await imports.note_read(tx, due, shifts, [], cut=False)

    await desk.db.run(ORG, work)


async def change(tx: Tx, computations: Computations) -> None:
    """What people do once the schedule is there."""
    offered = day(1.25)  # ana's
    swap = SwapRow(
        new_id(), "web", "ana", offered, offered + timedelta(hours=1), None, None, ("finn",), "", "users/ana"
    )
    await swaps.accept(tx, await swaps.create(tx, swap, computations), "finn", "users/finn", computations)
    night = OverrideRow(new_id(), "web", day(5.6), day(6.1), Scope.SCHEDULE, "", ("finn", "eva"), "ill", "users/ana")
    await overrides.create_override(tx, night)
    nobody = OverrideRow(new_id(), "web", day(9.2), day(9.4), Scope.SCHEDULE, "", (), "a party", "users/ana")
    await overrides.create_override(tx, nobody)
    await overrides.create_absence(tx, AbsenceRow(new_id(), "cem", day(2), day(9), "ski", "users/cem"))


async def test_all_answers_agree_at_any_instant(desk: Desk) -> None:
    random = Random(20261129)
    await comes(desk, BEGIN)
    await set_up(desk)
    await desk.asks(change)
    minutes = sorted(random.sample(range(10, DAYS * 24 * 60), INSTANTS))
    # Some are the first and the last minute of something.
    segments = await schedules.resolved(desk.db, ORG, "web", BEGIN, day(DAYS))
    instants = sorted({minute_of(BEGIN) + each for each in minutes} | {each.start for each in segments[3:12]})
    kinds = {source.kind.value for each in segments for source in each.sources}
    assert kinds == {"layer", "swap", "override", "calendar", "stand_in"}, "nothing is missing"
    feed = await events(desk)
    for instant in instants:
        moment = datetime.fromtimestamp(instant * 60, UTC)
        on_call = next(each for each in segments if each.start <= instant < each.end)
        wanted = set(on_call.people)
        assert {user for user, start, end in feed if start <= moment < end} == wanted, moment
        assert await foreseen(desk, moment) == wanted, moment
        await comes(desk, moment + timedelta(seconds=1))
        [(_, standing)] = await schedules.on_calls(desk.db, ORG, ("web",), None, "", 5)
        assert set(standing.segment.people) == wanted, moment
        await is_paged_and_explained(desk, on_call)


async def comes(desk: Desk, moment: datetime) -> None:
    """The database's clock is moved to it."""
    async with desk.db.system() as tx:
        now = await tx.now()
    await desk.passes(seconds=(moment - now).total_seconds())


async def events(desk: Desk) -> list[tuple[str, datetime, datetime]]:
    async def make(tx: Tx) -> UUID:
        return (await calendar_feeds.create(tx, FeedRow(new_id(), "", "web", "", "", "users/ana")))[0].id

    text = await CalendarFeeds(desk.db).read(ORG, await desk.db.run(ORG, make))
    shown: list[Any] = list(icalendar.Calendar.from_ical(text).walk("VEVENT"))
    return [(str(each["SUMMARY"]).partition(":")[0], each.start, each.end) for each in shown]


async def foreseen(desk: Desk, moment: datetime) -> set[str]:
    """Whom SimulateIncident and CheckPolicy name, before it is so late."""
    plan = (await foresee.on_policy(desk.db, Notify(), ORG, "web", moment, 1)).plan
    checked = await check_policy(desk.db, Notify(), ORG, PolicyCheck(POLICY, [moment], 1, 7, saved=True))
    [forecast] = checked.forecasts
    assert paged(forecast.steps) == paged(plan.steps)
    return paged(plan.steps)


def paged(steps: Sequence[SimulatedEntry]) -> set[str]:
    return {page.user for step in steps if step.note.kind is NoteKind.LEVEL_PAGED for page in step.note.pages}


async def is_paged_and_explained(desk: Desk, on_call: Segment) -> None:
    async with desk.db.system() as tx:
        now = await tx.now()
    arrival = desk.opening(policy="web")
    assert isinstance(arrival.event, Opening)
    arrival = replace(arrival, event=replace(arrival.event, facts=replace(arrival.event.facts, create_time=now)))
    assert await apply_events(desk.db, desk.effects, [arrival]) == [Result.APPLIED]
    async with desk.db.transaction(ORG) as tx:
        entries = await timeline.page(tx, arrival.incident_id, 0, 50)
    told = {user for entry in entries if entry.kind == NoteKind.LEVEL_PAGED for user in entry.paged_users}
    assert told == set(on_call.people), [entry.message for entry in entries]
    verdicts: Mapping[str, bool] = {user: await was_paged(desk, arrival.incident_id, user, on_call) for user in USERS}
    assert {user for user, yes in verdicts.items() if yes} == set(on_call.people)


async def was_paged(desk: Desk, incident: UUID, user: str, on_call: Segment) -> bool:
    found = (await explain_page(desk.db, Notify(), ORG, incident, user, deliveries=False)).explanation
    if user in on_call.people:
        said = " ".join(each.message for each in found.statements)
        for source in on_call.sources:
            if user in source.people and source.kind.value not in ("layer", "stand_in"):
                assert source.id in said, said
    return found.verdict is not Verdict.NOT_PAGED
