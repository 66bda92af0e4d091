"""Calendars on a real PostgreSQL: what feeds are kept, found by a secret and remember to have shown, and what imports say."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import icalendar
import pytest
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_escalation.app.people import people
from tocsin_escalation.app.schedules import calendar_feeds, overrides, schedules
from tocsin_escalation.app.schedules.calendar_feeds import CalendarFeeds
from tocsin_escalation.domain.schedules.clock import local_of, minute_of
from tocsin_escalation.domain.schedules.model import FixedShift, Layer, Mode, Scope, Turn, Unit
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.store.schedules import calendar_feeds as store
from tocsin_escalation.store.schedules import calendar_imports as imports
from tocsin_escalation.store.schedules.calendar_feeds import FeedRow
from tocsin_escalation.store.schedules.calendar_imports import ImportRow
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import new_id

ORG = "acme"


@pytest.fixture
async def feeds(db: Database) -> CalendarFeeds:
    """Two people who take weeks in turn, since long ago."""

    async def work(tx: Tx) -> None:
        for user in ("ana", "ben"):
            await people.create_user(tx, UserRow(user, user.title(), "", False))
        start = (await tx.now() - timedelta(days=70)).replace(tzinfo=None)
        layer = Layer("week", (Turn(Unit.WEEK, 1),), local_of(start), (("ana",), ("ben",)), "UTC")
        await schedules.create(tx, ScheduleRow("web", "Web, all of it", "", "UTC", False, (layer,)))

    await db.run(ORG, work)
    return CalendarFeeds(db)


async def make(db: Database, user: str = "", schedule: str = "") -> tuple[UUID, str]:
    async def work(tx: Tx) -> tuple[UUID, str]:
        row, secret = await calendar_feeds.create(tx, FeedRow(new_id(), user, schedule, "phone", "", "users/ana"))
        return row.id, secret

    return await db.run(ORG, work)


async def read(feeds: CalendarFeeds, id: UUID) -> list[Any]:
    return list(icalendar.Calendar.from_ical(await feeds.read(ORG, id)).walk("VEVENT"))


async def override(db: Database, *users: str, hours: int = 2) -> None:
    """Others are on call from now on for some hours."""

    async def work(tx: Tx) -> None:
        start = (await tx.now()).replace(second=0, microsecond=0)
        end = start + timedelta(hours=hours)
        row = OverrideRow(new_id(), "web", start, end, Scope.SCHEDULE, "", users, "ill", "users/ana")
        await overrides.create_override(tx, row)

    await db.run(ORG, work)


async def test_the_feed_of_a_schedule_agrees_with_what_is_resolved_and_remembers_what_it_showed(
    db: Database, feeds: CalendarFeeds
) -> None:
    id, _ = await make(db, schedule="web")
    shown = await read(feeds, id)
    since, until = min(each.start for each in shown), max(each.end for each in shown)
    found = await schedules.resolved(db, ORG, "web", since, until)
    said = [(each.start, each.people) for each in found]
    assert said == [(minute_of(each.start), (str(each["SUMMARY"]).partition(":")[0].lower(),)) for each in shown]
    assert str(shown[0]["SUMMARY"]).endswith(": Web, all of it")
    assert await feeds.read(ORG, id) == await feeds.read(ORG, id)

    before = {str(each["UID"]): each for each in shown}
    await override(db, "ben" if await on_call(db) == "ana" else "ana")
    after = {str(each["UID"]): each for each in await read(feeds, id)}
    assert before.keys() < after.keys()
    changed = [uid for uid in before if int(after[uid]["SEQUENCE"]) != int(before[uid]["SEQUENCE"])]
    assert [int(after[uid]["SEQUENCE"]) for uid in changed] == [1], "the shift that ends earlier now, and no other"


async def on_call(db: Database) -> str:
    async with db.transaction(ORG) as tx:
        now = await tx.now()
    [segment, *_] = await schedules.resolved(db, ORG, "web", now, now + timedelta(minutes=1))
    [user] = segment.people
    return user


async def test_the_feed_of_a_user_has_their_shifts_alone_also_those_of_overrides_and_cancels_those_of_a_deleted_schedule(
    db: Database, feeds: CalendarFeeds
) -> None:
    id, _ = await make(db, user="ana")
    alone = await read(feeds, id)
    assert {str(each["SUMMARY"]) for each in alone} == {"On call: Web, all of it"}
    assert len(alone) in (6, 7, 8)

    async def widow(tx: Tx) -> None:
        await people.create_user(tx, UserRow("cem", "Cem", "", False))

    await db.run(ORG, widow)
    cem, _ = await make(db, user="cem")
    assert await read(feeds, cem) == []
    await override(db, "cem")
    [stands_in] = await read(feeds, cem)
    assert "by an override" in str(stands_in["DESCRIPTION"])

    async def delete(tx: Tx) -> None:
        await schedules.delete(tx, "web", "")

    await db.run(ORG, delete)
    assert {str(each["STATUS"]) for each in await read(feeds, id)} == {"CANCELLED"}
    assert [str(each["STATUS"]) for each in await read(feeds, cem)] == ["CANCELLED"]


async def test_a_secret_stands_for_its_feed_until_it_is_deleted_and_is_kept_as_a_hash(
    db: Database, feeds: CalendarFeeds
) -> None:
    id, secret = await make(db, user="ana")
    principal = await feeds.authenticate(secret)
    assert principal is not None
    assert (principal.org_id, principal.subject, principal.scopes) == (ORG, f"calendarFeeds/{id}", frozenset())
    async with db.system() as tx:
        kept = await tx.fetchval("SELECT calendar_feeds::text FROM calendar_feeds")
    assert secret[4:] not in kept
    async with db.transaction(ORG) as tx:
        await store.delete(tx, id)
    for wrong in (secret, secret[:-1], secret + "A", "tak" + secret[3:], "", "x" * 9000):
        with pytest.raises(TocsinError) as refused:
            await feeds.authenticate(wrong)
        assert refused.value.reason == ErrorReason.ERROR_REASON_CREDENTIAL_INVALID
    with pytest.raises(TocsinError) as gone:
        await feeds.read(ORG, id)
    assert gone.value.reason == ErrorReason.ERROR_REASON_CALENDAR_FEED_NOT_FOUND


async def test_two_readers_at_once_and_another_tenant(db: Database, feeds: CalendarFeeds) -> None:
    id, _ = await make(db, schedule="web")
    first, second = await asyncio.gather(feeds.read(ORG, id), feeds.read(ORG, id))
    assert first == second
    async with db.transaction(ORG) as tx:
        shown = await store.shown(tx, id)
        assert shown is not None
        assert shown.version == 1
        assert not await store.show(tx, id, store.Shown((), 0), ()), "it has been changed since"
        row = await calendar_feeds.must(tx, id)
        assert row.last_fetch_time is not None
    with pytest.raises(TocsinError):
        await feeds.read("other", id)


async def test_what_was_read_before_an_import_was_changed_does_not_count(db: Database, feeds: CalendarFeeds) -> None:
    row = ImportRow(new_id(), "web", "", b"url", "host", "", 0, Mode.MASK, {}, "users/ana")
    shift = FixedShift(0, 60, ("ana",))

    async def work(tx: Tx) -> None:
        await imports.insert(tx, row)
        [before] = await imports.claim(tx, 60, 5)
        await imports.update(tx, replace(row, url=b"another"), read_anew=True)
        await imports.note_read(tx, before, [shift], [], cut=False)
        await imports.note_error(tx, before, "cannot be reached")
        found = await imports.get(tx, row.id)
        assert found is not None
        assert (found.shifts, found.read_time, found.error) == ((), None, "")
        [due] = await imports.claim(tx, 60, 5)
        await imports.note_read(tx, due, [shift], [], cut=False)
        found = await imports.get(tx, row.id)
        assert found is not None
        assert found.shifts == (shift,)

    await db.run(ORG, work)
