"""Notices of shifts on a real database: planned from the schedules, moved with them, and sent once."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asyncpg import LockNotAvailableError, QueryCanceledError
from tocsin.notify.v1 import notification_pb2
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.notices import plan_notices, send_notices, shift_notices
from tocsin_escalation.app.notices.plan_notices import PlanNotices
from tocsin_escalation.app.notices.send_notices import SendNotices
from tocsin_escalation.app.people import people, policies
from tocsin_escalation.domain.events import Resolved
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.store.notices import shift_notices as store
from tocsin_escalation.store.notices.shift_notices import NoticeSettings
from tocsin_escalation.store.people.directory import UserRow
from tocsin_kit.db.pool import Tx
from tocsin_testkit.busy import until

from tests.store.escalation.recorders import ORG, Desk
from tests.store.escalation.shifts import HOUR, begins_in, puts, sent, want

AN_HOUR_BEFORE = NoticeSettings(60, False, None, "")
BOTH = NoticeSettings(60, True, None, "email")


async def plan(desk: Desk) -> list[tuple[str, str, str]]:
    """Who has which notice planned."""
    await PlanNotices(desk.db).look()
    async with desk.db.transaction(ORG) as tx:
        rows = await store.of_users(tx, ["ana", "ben", "carl"])
    return sorted((row.user_id, row.kind.value, row.state.value) for row in rows)


async def send(desk: Desk, most: int = 100) -> None:
    await SendNotices(desk.db, desk.effects.metrics, most, lambda: None).round()


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
    await want(desk, NoticeSettings(None, False, None, ""), "ana")
    await send(desk)
    assert (await sent(desk), await plan(desk)) == ([], [("ana", "before", "skipped"), ("ana", "hand_over", "skipped")])


async def test_the_hand_over_lists_what_is_open_on_the_schedule(desk: Desk) -> None:
    await begins_in(desk, 3)
    level = Level((Target(TargetKind.SCHEDULE, "web"),), timedelta(minutes=5))
    await desk.db.run(ORG, lambda tx: policies.create(tx, Policy("web", (level,)), "Web", False, Computations()))
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
    await want(desk, NoticeSettings(None, False, now.weekday() * 1440 + now.hour * 60 + now.minute, ""), "ana", "ben")
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
async def test_a_user_whose_notice_cannot_be_sent_holds_up_no_other_user(
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

    async def ben_is_told() -> bool:
        await send(desk)
        return {job.user for job in await sent(desk)} == {"users/ben"}

    monkeypatch.setattr(send_notices, "_judge", fails)
    # A session that is given up may hold both rows for a moment longer, and a round passes over rows that are held.
    await until(ben_is_told)
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


async def test_who_is_to_be_deleted_stays_until_their_settings_are_saved(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for the user and the write of what belongs to them."""
    must_exist, deleting = shift_notices.must_exist, list[asyncio.Task[UserRow]]()

    async def deleted_then(tx: Tx, user: str, *, lock: bool) -> None:
        await must_exist(tx, user, lock=lock)
        deleting.append(asyncio.create_task(desk.db.run(ORG, lambda other: people.delete_user(other, user, ""))))
        await asyncio.wait(deleting, timeout=0.3)  # it ends in a fraction of this where nothing holds it up

    monkeypatch.setattr(shift_notices, "must_exist", deleted_then)
    _, saved = await desk.db.run(ORG, lambda tx: shift_notices.replace(tx, "ana", "", AN_HOUR_BEFORE))
    assert saved.before_minutes == 60
    await asyncio.gather(*deleting)
    async with desk.db.transaction(ORG) as tx:
        assert await store.get(tx, "ana") is None
