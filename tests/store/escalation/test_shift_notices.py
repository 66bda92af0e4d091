"""Notices of shifts on a real database: planned from the schedules, moved with them, and sent once."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from asyncpg import LockNotAvailableError, QueryCanceledError
from tocsin.notify.v1 import notification_pb2
from tocsin_escalation.app.notices import plan_notices, send_notices, shift_notices
from tocsin_escalation.app.notices.notice_jobs import NOTICE
from tocsin_escalation.app.notices.plan_notices import PlanNotices
from tocsin_escalation.app.notices.send_notices import SendNotices
from tocsin_escalation.app.notices.tell_changes import TellChanges
from tocsin_escalation.app.people import people, policies
from tocsin_escalation.app.schedules import coming_shifts, overrides, schedules, swaps
from tocsin_escalation.domain.events import Resolved
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules import clock, turns
from tocsin_escalation.domain.schedules.model import Layer, Scope, Turn, Unit
from tocsin_escalation.domain.shift_changes import Known
from tocsin_escalation.store.notices import known_shifts
from tocsin_escalation.store.notices import shift_notices as store
from tocsin_escalation.store.notices.shift_notices import Wanted
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.store.schedules import on_call
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_escalation.store.schedules.swaps import SwapRow
from tocsin_kit.db.pool import Tx

from tests.store.escalation.recorders import ORG, Desk
from tests.unit.escalation.schedules.writing import group, local

AN_HOUR_BEFORE = Wanted(60, False, None, "")
BOTH = Wanted(60, True, None, "email")
HOUR = timedelta(hours=1)


async def begins_in(desk: Desk, hours: int, *, schedule: str = "web") -> datetime:
    """When ana's shift begins; ben has the one before it."""
    start = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=hours)
    anchor = local(f"{start - timedelta(days=7):%Y-%m-%d %H:%M}")
    layer = Layer("week", (Turn(Unit.WEEK, 1),), anchor, (group("ben"), group("ana")), "UTC")
    await desk.db.run(
        ORG, lambda tx: schedules.create(tx, ScheduleRow(schedule, schedule.title(), "", "UTC", False, (layer,)))
    )
    return start


async def want(desk: Desk, wanted: Wanted, *users: str) -> None:
    for user in users:
        await desk.db.run(ORG, lambda tx, user=user: shift_notices.replace(tx, user, "", wanted))  # type: ignore[misc]


async def plan(desk: Desk) -> list[tuple[str, str, str]]:
    """Who has which notice planned."""
    await PlanNotices(desk.db).look()
    async with desk.db.transaction(ORG) as tx:
        rows = await store.of_users(tx, ["ana", "ben", "carl"])
    return sorted((row.user_id, row.kind.value, row.state.value) for row in rows)


async def send(desk: Desk, most: int = 100) -> None:
    await SendNotices(desk.db, desk.effects.metrics, most, lambda: None).round()


async def sent(desk: Desk) -> list[notification_pb2.NotificationJob]:
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT payload FROM outbox WHERE kind = $1 ORDER BY id", NOTICE)
    return [notification_pb2.NotificationJob.FromString(row["payload"]) for row in rows]


async def puts(desk: Desk, user: str, start: datetime, *, hours: int) -> None:
    row = OverrideRow(uuid4(), "web", start, start + hours * HOUR, Scope.SCHEDULE, "", (user,), "", "users/ana")
    await desk.db.run(ORG, lambda tx: overrides.create_override(tx, row))


async def test_ana_gets_one_message_an_hour_before_her_shift(desk: Desk) -> None:
    begins = await begins_in(desk, 3)
    assert await plan(desk) == [], "nobody is told who has not asked for it"
    await want(desk, AN_HOUR_BEFORE, "ana", "ben")
    assert await plan(desk) == [("ana", "before", "planned")]
    await desk.passes(hours=1, minutes=58)
    await send(desk)
    assert await sent(desk) == []
    await desk.passes(minutes=3)
    await asyncio.gather(send(desk), send(desk), send(desk))
    assert await plan(desk) == [("ana", "before", "sent")]
    await send(desk)
    [job] = await sent(desk)
    assert (job.user, job.about, job.incident) == ("users/ana", "schedules/web", "")
    assert job.title.startswith(f"Your shift begins {begins:%a} {begins.day} {begins:%b %H:%M}, in ")
    assert "; you take over from ben" in job.text
    assert job.expire_time.ToDatetime(UTC) == begins, "later it would not be true any more"
    assert job.planned_time.ToDatetime(UTC) == begins - HOUR


@pytest.mark.parametrize("users", [1, 200])
async def test_an_override_that_comes_after_planning_moves_the_notice_to_carl(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, users: int
) -> None:
    monkeypatch.setattr(plan_notices, "_USERS", users)
    begins = await begins_in(desk, 3)
    await desk.db.run(ORG, lambda tx: people.create_user(tx, UserRow("carl", "Carl", "", False)))
    await want(desk, AN_HOUR_BEFORE, "ana", "carl")
    await plan(desk)
    await puts(desk, "carl", begins, hours=7 * 24)
    await desk.passes(hours=2, minutes=1)
    await send(desk)
    assert await sent(desk) == [], "the schedule is asked once more, also before the next look"
    assert await plan(desk) == [("carl", "before", "planned")]
    await send(desk)
    assert [job.user for job in await sent(desk)] == ["users/carl"]


async def test_turning_them_off_counts_at_once(desk: Desk) -> None:
    await begins_in(desk, 3)
    await want(desk, BOTH, "ana")
    await plan(desk)
    await desk.passes(hours=3, seconds=90)
    await want(desk, Wanted(None, False, None, ""), "ana")
    await send(desk)
    assert (await sent(desk), await plan(desk)) == ([], [("ana", "before", "skipped"), ("ana", "hand_over", "skipped")])


async def test_the_hand_over_lists_what_is_open_on_the_schedule(desk: Desk) -> None:
    await begins_in(desk, 3)
    level = Level((Target(TargetKind.SCHEDULE, "web"),), timedelta(minutes=5))
    await desk.db.run(ORG, lambda tx: policies.create(tx, Policy("web", (level,)), "Web", False))
    await want(desk, BOTH, "ana")
    await plan(desk)
    await desk.opens(policy="web", title="db down")
    over = await desk.opens(policy="web", title="db slow")
    await desk.opens(title="of another policy")
    await desk.take(over, Resolved("users/ben"))
    await desk.passes(hours=3, seconds=90)
    await send(desk)
    [job] = await sent(desk)
    assert job.title == "You are on call now: Web"
    assert job.channel_override == notification_pb2.CHANNEL_EMAIL
    assert "1 incident open:\n- db down (critical, triggered, since" in job.text
    assert "db slow" not in job.text
    assert "of another policy" not in job.text
    assert await plan(desk) == [("ana", "before", "skipped"), ("ana", "hand_over", "sent")], "one says it all"


async def test_two_schedules_that_begin_together_are_one_message(desk: Desk) -> None:
    await begins_in(desk, 3)
    await begins_in(desk, 3, schedule="db")
    await want(desk, BOTH, "ana")
    await plan(desk)
    await desk.passes(hours=2, minutes=1)
    await send(desk)
    await desk.passes(hours=1)
    await send(desk)
    first, second = await sent(desk)
    assert ("Web:" in first.text, "Db:" in first.text, first.about) == (True, True, "")
    assert second.title == "You are on call now: Db, Web"


async def test_a_notice_that_comes_after_the_beginning_says_so(desk: Desk) -> None:
    await begins_in(desk, 3)
    await want(desk, AN_HOUR_BEFORE, "ana")
    await plan(desk)
    await desk.passes(hours=3, minutes=20)
    await send(desk)
    [job] = await sent(desk)
    assert job.title.startswith("Your shift began ")


async def test_what_is_later_than_an_hour_is_skipped_and_shown_so(desk: Desk) -> None:
    await begins_in(desk, 3)
    await want(desk, BOTH, "ana")
    await plan(desk)
    await desk.passes(hours=4, minutes=1)
    await send(desk)
    assert await sent(desk) == []
    assert await plan(desk) == [("ana", "before", "skipped"), ("ana", "hand_over", "skipped")]
    assert desk.effects.metrics.shift_notices.labels("skipped")._value.get() == 2


async def test_the_week_ahead_lists_the_shifts_of_the_coming_week(desk: Desk) -> None:
    await begins_in(desk, 30)
    now = datetime.now(UTC) + HOUR
    await want(desk, Wanted(None, False, now.weekday() * 1440 + now.hour * 60 + now.minute, ""), "ana", "ben")
    assert await plan(desk) == [("ana", "week", "planned"), ("ben", "week", "planned")]
    await desk.passes(hours=1, minutes=1)
    await asyncio.gather(send(desk), send(desk))
    await plan(desk)
    await send(desk)
    of = {job.user: job for job in await sent(desk)}
    assert len(await sent(desk)) == 2
    assert of["users/ana"].title == "The coming week: 1 shift"
    assert of["users/ben"].text.startswith("Web: now to "), "what is under way counts as well"


async def test_a_killed_sender_leaves_the_notice_due_and_another_one_sends_it_once(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begins_in(desk, 3)
    await want(desk, AN_HOUR_BEFORE, "ana", "ben")
    await plan(desk)
    await desk.passes(hours=2, minutes=1)

    async def dies(*_: object) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr(send_notices.shift_notices, "settle", dies)  # type: ignore[attr-defined]
        with pytest.raises(asyncio.CancelledError):
            await send(desk)
    assert await sent(desk) == []
    await asyncio.gather(send(desk), send(desk))
    assert len(await sent(desk)) == 1


@pytest.mark.parametrize(
    "error",
    [RuntimeError("as planned"), QueryCanceledError("statement timeout"), LockNotAvailableError("lock timeout")],
)
async def test_a_user_whose_notice_cannot_be_sent_holds_up_nobody(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Whether it is a defect, or the database ends each transaction in which this notice is."""
    begins = await begins_in(desk, 3)
    await want(desk, AN_HOUR_BEFORE, "ana", "ben")
    await puts(desk, "ben", begins + HOUR, hours=2)
    await plan(desk)
    await desk.passes(hours=3, minutes=1)
    judge = send_notices._judge

    def fails(chooser: store.Chooser, *rest: Any) -> Any:
        if chooser.user_id == "ana":
            raise error
        return judge(chooser, *rest)

    monkeypatch.setattr(send_notices, "_judge", fails)
    await send(desk)
    assert {job.user for job in await sent(desk)} == {"users/ben"}
    monkeypatch.setattr(send_notices, "_judge", judge)
    await send(desk)
    assert {job.user for job in await sent(desk)} == {"users/ben"}, "it rests"
    await desk.passes(minutes=1)
    await send(desk)
    assert {job.user for job in await sent(desk)} == {"users/ana", "users/ben"}


async def test_a_tenant_whose_notices_cannot_be_planned_holds_up_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begins_in(desk, 3)
    await want(desk, AN_HOUR_BEFORE, "ana")
    async with desk.db.system() as tx:
        await tx.execute(
            """INSERT INTO users (org_id, id, display_name, time_zone, disabled) SELECT '0-first', id, '', '', false
               FROM users WHERE org_id = $1 AND id = 'ana'""",
            ORG,
        )
        await tx.execute(
            """INSERT INTO shift_notice_choices (org_id, user_id, hand_over, channel) VALUES ('0-first', 'ana', true, '')"""
        )
    read = plan_notices.coming_shifts.of  # type: ignore[attr-defined]

    async def takes_too_long(tx: Tx, keys: Any, users: Any, now: datetime) -> Any:
        if any(org_id == "0-first" for org_id, _ in users):
            raise QueryCanceledError("statement timeout")
        return await read(tx, keys, users, now)

    monkeypatch.setattr(plan_notices.coming_shifts, "of", takes_too_long)  # type: ignore[attr-defined]
    assert await plan(desk) == [("ana", "before", "planned")]


async def test_a_round_is_bounded_and_the_tenants_take_turns(desk: Desk) -> None:
    async def many(tx: Tx, org_id: str, users: int) -> None:
        await tx.execute(
            """INSERT INTO users (org_id, id, display_name, time_zone, disabled)
               SELECT $1, 'u' || n, 'U', '', false FROM generate_series(1, $2::int) AS n""",
            org_id,
            users,
        )
        await tx.execute(
            """INSERT INTO shift_notice_choices (org_id, user_id, hand_over, channel, next_due)
               SELECT $1, 'u' || n, false, '', app_now() - interval '1 minute' FROM generate_series(1, $2::int) AS n""",
            org_id,
            users,
        )

    async with desk.db.system() as tx:
        await many(tx, "large", 50)
        await many(tx, "small", 2)
        taken = await store.due(tx, 10)
    assert [org for org, _ in taken].count("small") == 2
    assert len(taken) == 10


CHANGES = Wanted(None, False, None, "", changes=True)


async def look(desk: Desk) -> None:
    await TellChanges(desk.db, desk.effects.metrics).look()


async def test_who_loses_and_who_gains_a_shift_is_told_once_a_change_has_lasted(desk: Desk) -> None:
    begins = await begins_in(desk, 3)
    await desk.db.run(ORG, lambda tx: people.create_user(tx, UserRow("carl", "Carl", "", False)))
    await want(desk, CHANGES, "ana", "carl")
    await look(desk)
    await puts(desk, "carl", begins, hours=8)
    await look(desk)
    assert await sent(desk) == [], "it may be taken back"
    await desk.passes(minutes=2)
    await asyncio.gather(look(desk), look(desk))
    told = {job.user: job for job in await sent(desk)}
    assert set(told) == {"users/ana", "users/carl"}
    assert len(await sent(desk)) == 2
    assert told["users/ana"].title == "Your shifts have changed: Web"
    assert "; on call is Carl (an override)" in told["users/ana"].text
    assert told["users/carl"].text.startswith("Now yours: Web, ")
    await desk.passes(hours=30)
    await look(desk)
    await want(desk, Wanted(None, False, None, ""), "ana")
    await want(desk, CHANGES, "ana")
    await desk.db.run(ORG, lambda tx: schedules.delete(tx, "web", ""))
    for _ in range(2):
        await look(desk)
        await desk.passes(minutes=3)
    assert len(await sent(desk)) == 2, "carl's shift is over, and what ana knew was forgotten"


@pytest.fixture
def zone_data(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets Cairo have an offset, as processes that start with another version of the zones know it."""
    load = clock._load
    kept = (clock.clock, turns.turns_of, on_call._kept, on_call._kept_without, coming_shifts._kept)

    def release(offset: str) -> None:
        monkeypatch.setattr(clock, "_load", lambda zone: load(f"Etc/{offset}" if zone == "Africa/Cairo" else zone))
        for each in kept:
            each.cache_clear()

    yield release
    for each in kept:
        each.cache_clear()


async def test_a_new_version_of_the_time_zones_that_moves_a_shift_is_told(
    desk: Desk, zone_data: Callable[[str], None]
) -> None:
    """Local times are kept, so that another version of the zones moves the instants."""
    zone_data("GMT-2")
    start = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(hours=3)
    anchor = local(f"{start + timedelta(hours=2) - timedelta(days=7):%Y-%m-%d %H:%M}")
    layer = Layer("week", (Turn(Unit.WEEK, 1),), anchor, (group("ben"), group("ana")), "Africa/Cairo")
    await desk.db.run(
        ORG, lambda tx: schedules.create(tx, ScheduleRow("web", "Web", "", "Africa/Cairo", False, (layer,)))
    )
    await want(desk, CHANGES, "ana", "ben")
    await look(desk)
    zone_data("GMT-3")
    await look(desk)
    await desk.passes(minutes=2)
    await look(desk)
    told = {job.user: job.text for job in await sent(desk)}
    assert set(told) == {"users/ana", "users/ben"}
    earlier = start - timedelta(hours=1)
    assert f"Now yours: Web, {earlier:%a} {earlier.day} {earlier:%b %H:%M} to" in told["users/ana"]


_SLOW = """
CREATE POLICY slow ON shift_notice_choices AS RESTRICTIVE
  USING (current_setting('tocsin_test.slow', true) IS DISTINCT FROM 'yes' OR pg_sleep(0.3) IS NOT NULL)
"""


async def test_a_change_is_told_by_one_replica_also_when_another_began_to_lock_before_it_was_told(
    desk: Desk, url: str
) -> None:
    """The statement that locks sees what was there when it began; what it waits for may have been told meanwhile."""
    await want(desk, CHANGES, "ana")
    await look(desk)
    begun = asyncio.Event()

    async def late(tx: Tx) -> dict[str, int]:
        await tx.execute("SELECT set_config('tocsin_test.slow', 'yes', true)")
        begun.set()
        return await known_shifts.lock(tx, ["ana"])

    async def told(tx: Tx) -> int:
        [version] = (await known_shifts.lock(tx, ["ana"])).values()
        await known_shifts.save(tx, [("ana", Known(0, ()))])
        return version

    owner = await asyncpg.connect(url)
    try:
        await owner.execute(_SLOW)
        waiting = asyncio.create_task(desk.db.run(ORG, late))
        await begun.wait()
        await asyncio.sleep(0.05)
        version = await desk.db.run(ORG, told)
        # None when the lock was not free: it is looked at again in the next round.
        assert (await waiting).get("ana") in (None, version + 1)
    finally:
        await owner.execute("DROP POLICY IF EXISTS slow ON shift_notice_choices")
        await owner.close()


async def test_who_wants_to_hear_of_swaps_is_told_of_offers_and_answers(desk: Desk) -> None:
    begins = await begins_in(desk, 3)
    row = SwapRow(uuid4(), "web", "ana", begins, begins + HOUR, None, None, ("ben",), "ill", "users/ana")

    async def offer(tx: Tx, to: tuple[str, ...]) -> SwapRow:
        return await swaps.create(tx, replace(row, id=uuid4(), offered_to=to))

    await desk.db.run(ORG, lambda tx: offer(tx, ("ben",)))
    assert await sent(desk) == [], "nobody is told who has not asked for it"
    await want(desk, Wanted(None, False, None, "email", swaps=True), "ana", "ben")
    made = await desk.db.run(ORG, lambda tx: offer(tx, ()))
    [job] = await sent(desk)
    assert (job.user, job.title) == ("users/ben", "ana offers you time on call: Web")
    assert f"Accept or decline it as swaps/{made.id}." in job.text
    assert job.channel_override == notification_pb2.CHANNEL_EMAIL
    assert job.expire_time.ToDatetime(UTC) == begins
    other = await desk.db.run(ORG, lambda tx: offer(tx, ("ben",)))
    await desk.db.run(ORG, lambda tx: swaps.decline(tx, other, "ben"))
    await desk.db.run(ORG, lambda tx: swaps.accept(tx, made, "ben", "users/ben"))
    titles = [job.title for job in await sent(desk) if job.user == "users/ana"]
    assert titles == ["Nobody takes your time on call; declined by ben: Web", "ben takes your time on call: Web"]


async def test_a_tenant_whose_changes_cannot_be_told_ends_no_round_and_is_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    begins = await begins_in(desk, 3)
    await want(desk, CHANGES, "ana")
    await look(desk)
    await puts(desk, "ben", begins, hours=8)
    await look(desk)
    await desk.passes(minutes=2)

    async def fails(tx: Tx, known: object) -> None:
        raise ValueError("unreadable")

    with monkeypatch.context() as patch:
        patch.setattr(known_shifts, "save", fails)
        await look(desk)
    assert await sent(desk) == [], "the message went with the row"
    assert desk.effects.metrics.shift_notices.labels("failed")._value.get() == 1
    await look(desk)
    assert [job.user for job in await sent(desk)] == ["users/ana"]
