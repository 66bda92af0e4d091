"""What digests tell of a tenant and its users, as people would count it by hand."""

from dataclasses import replace
from datetime import datetime, timedelta

from tocsin_escalation.app.figures.count_figures import CountFigures
from tocsin_escalation.app.figures.summaries import Summaries
from tocsin_escalation.app.people import people
from tocsin_escalation.app.schedules import schedules
from tocsin_escalation.domain.events import Acknowledged, AlertsAdded, Resolved
from tocsin_escalation.domain.figures import DigestFigures, DigestPerson, Noise, OwnShift
from tocsin_escalation.domain.schedules.clock import local_of, minute_of
from tocsin_escalation.domain.schedules.model import Layer, Turn, Unit
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_kit.db.pool import Tx

from tests.store.escalation.ahead import SPRING
from tests.store.escalation.recorders import ORG, Desk
from tests.store.escalation.test_figures import at, opens

BEGIN = SPRING.replace(hour=8)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


async def asked(
    desk: Desk, start: datetime, users: tuple[str, ...] = ("ana", "ben")
) -> tuple[DigestFigures, list[DigestPerson]]:
    """The day from `start` on, once everything is counted."""
    await CountFigures(desk.db).everything()
    return await Summaries(desk.db).for_digests(ORG, users, start, start + DAY)


async def test_a_day_tells_what_was_opened_in_it_what_was_resolved_in_it_and_what_is_open_now(desk: Desk) -> None:
    """One is opened and resolved on the first day, one is resolved on the second, one stays open, one is in hand."""
    await at(desk, BEGIN + 2 * HOUR)
    short, long, _, taken = [await opens(desk) for _ in range(4)]
    await desk.passes(minutes=10)
    await desk.take(taken, Acknowledged("users/ana"))
    await desk.take(short, Resolved("users/ana"))
    await at(desk, BEGIN + DAY + HOUR)
    await desk.take(long, Resolved("users/ben"))
    first, [ana, ben] = await asked(desk, BEGIN)
    assert (first.opened, first.acknowledged, first.ended) == (4, 1, 1)
    assert abs(first.acknowledge_ms - 600_000) < 30_000
    assert (first.open, first.unanswered, [each.in_hand for each in first.oldest]) == (2, 1, [False, True])
    assert (ana.user, ana.pages, ana.acknowledged, ben.user, ben.pages) == ("ana", 4, 1, "ben", 0)
    second, [ana, _] = await asked(desk, BEGIN + DAY)
    assert (second.opened, second.acknowledged, second.ended, second.open) == (0, 0, 1, 2)
    assert (second.noisiest, ana.pages) == ((), 0)


async def test_the_noisiest_are_those_with_the_most_alerts_open_or_not(desk: Desk) -> None:
    await at(desk, BEGIN + HOUR)
    for title, alerts in (("Disk full", 40), ("Disk full", 3), ("Flapping", 50), ("Quiet", 1)):
        incident = await opens(desk, title=title)
        await desk.take(incident, AlertsAdded(alerts, 1, title, 0))
        await desk.take(incident, Resolved("users/ana"))
    found, _ = await asked(desk, BEGIN)
    assert found.noisiest == (Noise("Flapping", 1, 50), Noise("Disk full", 2, 43), Noise("Quiet", 1, 1))


async def test_a_user_is_told_their_next_shifts_and_one_who_is_disabled_or_unknown_nothing(desk: Desk) -> None:
    """Ana and Ben take turns of a day."""
    await at(desk, BEGIN)
    now = minute_of(BEGIN)

    async def settle(tx: Tx) -> None:
        layer = Layer("day", (Turn(Unit.DAY, 1),), local_of(BEGIN.replace(tzinfo=None)), (("ana",), ("ben",)), "UTC")
        await schedules.create(tx, ScheduleRow("web", "Web", "", "UTC", False, (layer,)))
        await people.update_user(tx, "ben", "", lambda ben: replace(ben, disabled=True))

    await desk.db.run(ORG, settle)
    _, [ana] = await asked(desk, BEGIN - DAY, ("ana", "ben", "nobody"))
    assert ana.shifts[0] == OwnShift("Web", now, now + 1440)
    assert len(ana.shifts) == 5
    assert not ana.shifts_incomplete
