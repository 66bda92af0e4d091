"""Changes of shifts and of swaps on a real database: told once to those who want to hear of them."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest
from tocsin.notify.v1 import notification_pb2
from tocsin_escalation.app.notices.tell_changes import TellChanges
from tocsin_escalation.app.people import people
from tocsin_escalation.app.schedules import coming_shifts, schedules, swaps
from tocsin_escalation.domain.schedules import clock, turns
from tocsin_escalation.domain.schedules.model import Layer, Turn, Unit
from tocsin_escalation.domain.shift_changes import KnownShifts
from tocsin_escalation.store.notices import known_shifts
from tocsin_escalation.store.notices.shift_notices import NoticeSettings
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.store.schedules import on_call
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_escalation.store.schedules.swaps import SwapRow
from tocsin_kit.db.pool import Tx

from tests.store.escalation.recorders import ORG, Desk
from tests.store.escalation.shifts import HOUR, begins_in, puts, sent, want
from tests.unit.escalation.schedules.writing import group, local

CHANGES = NoticeSettings(None, False, None, "", changes=True)


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
    await want(desk, NoticeSettings(None, False, None, ""), "ana")
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
        await known_shifts.save(tx, [("ana", KnownShifts(0, ()))])
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

    async def offer(*to: str) -> SwapRow:
        offered = replace(row, id=uuid4(), offered_to=to)
        return await desk.asks(lambda tx, questions: swaps.create(tx, offered, questions))

    await offer("ben")
    assert await sent(desk) == [], "nobody is told who has not asked for it"
    await want(desk, NoticeSettings(None, False, None, "email", swaps=True), "ana", "ben")
    made = await offer()
    [job] = await sent(desk)
    assert (job.user, job.title) == ("users/ben", "ana offers you time on call: Web")
    assert f"Accept or decline it as swaps/{made.id}." in job.text
    assert job.channel_override == notification_pb2.CHANNEL_EMAIL
    assert job.expire_time.ToDatetime(UTC) == begins
    other = await offer("ben")
    await desk.db.run(ORG, lambda tx: swaps.decline(tx, other, "ben"))
    await desk.asks(lambda tx, questions: swaps.accept(tx, made, "ben", "users/ben", questions))
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
