"""What belongs to a user, a policy, a schedule, an account or an incident that is deleted at the same moment is not found."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from tocsin_escalation.app.access import service_accounts
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.notices import shift_notices
from tocsin_escalation.app.notices.plan_notices import PlanNotices
from tocsin_escalation.app.notices.tell_changes import TellChanges
from tocsin_escalation.app.people import people, policies
from tocsin_escalation.app.schedules import overrides, swaps
from tocsin_escalation.app.schedules.calendar_imports import PURPOSE, CalendarImports
from tocsin_escalation.app.schedules.replace_periods import replace_periods
from tocsin_escalation.domain.events import Acknowledged
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.model import Mode, Scope
from tocsin_escalation.store.access.api_keys import ApiKeyRow
from tocsin_escalation.store.access.service_accounts import ServiceAccountRow
from tocsin_escalation.store.notices.shift_notices import NoticeSettings
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.store.schedules.calendar_imports import ImportRow
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.swaps import SwapRow
from tocsin_kit.ids import new_id
from tocsin_kit.secret_boxes import Boxes

from tests.store.escalation.recorders import ORG, Desk
from tests.store.escalation.shifts import HOUR, begins_in, want
from tests.store.escalation.test_planned import period
from tests.store.escalation.test_reminders import create
from tests.store.parents import Write, deleted_after, deleted_before, foreign_keys

SOON = datetime.now(UTC).replace(second=0, microsecond=0) + HOUR
TURNS = (Level((Target(TargetKind.USER, "ana"),), timedelta(minutes=5)),)


async def user(desk: Desk, name: str) -> str:
    await desk.db.run(ORG, lambda tx: people.create_user(tx, UserRow(name, name, "", False)))
    return f"DELETE FROM users WHERE id = '{name}'"


async def choice(desk: Desk, name: str) -> Write:
    wanted = NoticeSettings(60, False, None, "")
    gone = await user(desk, name)
    return Write(
        "shift_notice_choices",
        gone,
        lambda: desk.db.run(ORG, lambda tx: shift_notices.replace(tx, name, "", wanted)),
    )


async def notice(desk: Desk, name: str) -> Write:
    """A user who wants no notices any more gets none: the round skips them."""
    await begins_in(desk, 3, schedule=name)
    await want(desk, NoticeSettings(60, False, None, ""), "ana")
    gone = "DELETE FROM shift_notice_choices WHERE user_id = 'ana'"
    return Write("shift_notices", gone, lambda: PlanNotices(desk.db).look())


async def known(desk: Desk, name: str) -> Write:
    await begins_in(desk, 3, schedule=name)
    await want(desk, NoticeSettings(None, False, None, "", changes=True), "ana")
    gone = "DELETE FROM shift_notice_choices WHERE user_id = 'ana'"
    return Write("known_shifts", gone, lambda: TellChanges(desk.db, desk.effects.metrics).look())


async def key(desk: Desk, name: str) -> Write:
    row = ServiceAccountRow(name, "", "users/ana")
    await desk.db.run(ORG, lambda tx: service_accounts.create(tx, row))
    wanted = ApiKeyRow(new_id(), name, "", "", "", ("alerts:write",), (), "users/ana")
    return Write(
        "api_keys",
        f"DELETE FROM service_accounts WHERE id = '{name}'",
        lambda: desk.db.run(ORG, lambda tx: service_accounts.create_key(tx, wanted, None, frozenset({"alerts:write"}))),
    )


async def turns(desk: Desk, name: str) -> Write:
    before = Policy(name, TURNS)
    after = Policy(name, (Level(TURNS[0].targets, TURNS[0].timeout, in_turn=True),))
    await desk.db.run(ORG, lambda tx: policies.create(tx, before, "", False, Computations()))
    return Write(
        "policy_turns",
        f"DELETE FROM policies WHERE id = '{name}'",
        lambda: desk.db.run(
            ORG, lambda tx: policies.update(tx, name, "", lambda row: (after, "", False), Computations())
        ),
    )


async def override(desk: Desk, name: str) -> Write:
    gone = await schedule(desk, name)
    row = OverrideRow(new_id(), name, SOON, SOON + HOUR, Scope.SCHEDULE, "", ("ana",), "", "users/ana")
    return Write("schedule_overrides", gone, lambda: desk.db.run(ORG, lambda tx: overrides.create_override(tx, row)))


async def schedule(desk: Desk, name: str) -> str:
    await begins_in(desk, 3, schedule=name)
    return f"DELETE FROM schedules WHERE id = '{name}'"


async def fixed_period(desk: Desk, name: str) -> Write:
    gone = await schedule(desk, name)
    row = period(SOON, 1, name)
    return Write("fixed_periods", gone, lambda: desk.db.run(ORG, lambda tx: overrides.create_fixed_period(tx, row)))


async def periods(desk: Desk, name: str) -> Write:
    gone = await schedule(desk, name)
    row = period(SOON, 1, name)
    return Write(
        "fixed_periods",
        gone,
        lambda: desk.db.run(ORG, lambda tx: replace_periods(tx, name, SOON, SOON + HOUR, [row])),
    )


async def calendar(desk: Desk, name: str) -> Write:
    gone = await schedule(desk, name)
    row = ImportRow(new_id(), name, "", b"", "", "", 0, Mode.MASK, {}, "users/ana")
    imports = CalendarImports(Boxes([b"s" * 32], PURPOSE), lambda: None, allow_private=True)
    return Write(
        "calendar_imports",
        gone,
        lambda: desk.db.run(ORG, lambda tx: imports.create(tx, row, "https://example.com/rota.ics")),
    )


async def swap(desk: Desk, name: str) -> Write:
    gone = await schedule(desk, name)
    start = SOON + 3 * HOUR
    row = SwapRow(new_id(), name, "ana", start, start + HOUR, None, None, ("ben",), "", "users/ana")
    return Write("swaps", gone, lambda: desk.asks(lambda tx, computations: swaps.create(tx, row, computations)))


async def reminder(desk: Desk, name: str) -> Write:
    incident = await desk.opens()
    return Write(
        "reminders",
        f"DELETE FROM escalations WHERE incident_id = '{incident}'",
        lambda: create(desk, incident),
    )


async def entry(desk: Desk, name: str) -> Write:
    return await acknowledge(desk, "timeline")


async def timer(desk: Desk, name: str) -> Write:
    return await acknowledge(desk, "timers")


async def acknowledge(desk: Desk, child: str) -> Write:
    incident = await desk.opens()

    async def work() -> None:
        answer = await desk.take(incident, Acknowledged("users/ana"))
        if isinstance(answer, Exception):
            raise answer

    return Write(child, f"DELETE FROM escalations WHERE incident_id = '{incident}'", work)


Case = Callable[[Desk, str], Awaitable[Write]]
CASES: dict[str, list[tuple[Case, str]]] = {
    "api_keys -> service_accounts": [(key, "SERVICE_ACCOUNT_NOT_FOUND")],
    "calendar_imports -> schedules": [(calendar, "SCHEDULE_NOT_FOUND")],
    "fixed_periods -> schedules": [(fixed_period, "SCHEDULE_NOT_FOUND"), (periods, "SCHEDULE_NOT_FOUND")],
    "known_shifts -> shift_notice_choices": [(known, "")],
    "policy_turns -> policies": [(turns, "POLICY_NOT_FOUND")],
    "reminders -> escalations": [(reminder, "INCIDENT_NOT_FOUND")],
    "schedule_overrides -> schedules": [(override, "SCHEDULE_NOT_FOUND")],
    "shift_notice_choices -> users": [(choice, "USER_NOT_FOUND")],
    "shift_notices -> shift_notice_choices": [(notice, "")],
    "swaps -> schedules": [(swap, "SCHEDULE_NOT_FOUND")],
    "timeline -> escalations": [(entry, "INCIDENT_NOT_FOUND")],
    "timers -> escalations": [(timer, "INCIDENT_NOT_FOUND")],
}


async def test_each_foreign_key_is_walked(desk: Desk) -> None:
    assert await foreign_keys(desk.db) == set(CASES), "add what writes the new one"


@pytest.mark.parametrize(
    ("case", "reason"), [pytest.param(*each, id=each[0].__name__) for cases in CASES.values() for each in cases]
)
async def test_a_parent_that_is_deleted_meanwhile_is_not_found_and_one_that_was_found_stays(
    desk: Desk, case: Case, reason: str
) -> None:
    assert await deleted_before(desk.db, await case(desk, "first")) == reason
    assert await deleted_after(desk.db, await case(desk, "second")) == ""
