"""Figures of hours in which clocks change, and of incidents that are merged meanwhile, against a count in Python: 3 s in all."""

import contextlib
import random
from collections.abc import Awaitable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from tocsin_escalation.app.figures.count_figures import CountFigures
from tocsin_escalation.domain.events import Acknowledged, Resolved, Unmerged
from tocsin_escalation.domain.figures import Group, Question
from tocsin_escalation.store.incidents import timeline
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError

from tests.store.escalation.ahead import change_of_clocks
from tests.store.escalation.figures_by_hand import Made, by_hand, counted, pages_by_hand, quarter_of
from tests.store.escalation.merges import merge, unmerge
from tests.store.escalation.recorders import ORG, Desk
from tests.store.escalation.test_figures import ALL, at, incidents, opens, pages

CHANGES = (
    ("Europe/Berlin", 3),
    ("Australia/Lord_Howe", 3),  # half an hour back
    ("America/Santiago", 3),  # back over midnight: the evening before comes again
    ("America/Havana", 10),
    ("Antarctica/Troll", 3),  # two hours
)
"""Zones, and months from which on their clocks change next."""
GROUPINGS = (
    (),
    (Group.DAY,),
    (Group.DAY, Group.HOUR_OF_DAY),
    (Group.HOUR_OF_DAY, Group.POLICY),
    (Group.WEEK, Group.DAY_OF_WEEK),
    (Group.MONTH,),
)


def test_each_is_a_change_of_the_clocks() -> None:
    for name, month in CHANGES:
        moment, zone = change_of_clocks(name, month), ZoneInfo(name)
        before, after = ((moment + timedelta(minutes=each)).astimezone(zone).utcoffset() for each in (-1, 1))
        assert before != after, name


@pytest.mark.parametrize(("name", "month"), CHANGES)
async def test_hours_and_days_are_those_on_the_wall(desk: Desk, name: str, month: int) -> None:
    change, random_ = change_of_clocks(name, month), random.Random(name)
    made: Made = {}
    minutes = sorted(random_.randrange(-1500, 1500) if each % 2 else random_.randrange(-120, 120) for each in range(16))
    for minute in minutes:
        await at(desk, change + timedelta(minutes=minute))
        incident = await opens(desk, severity=random_.choice((1, 3)))
        facts = (await desk.run(incident)).facts
        made[incident] = ("night", "", facts.severity, facts.create_time)
        await desk.sweep()
        other = random_.choice(list(made))
        await desk.take(other, random_.choice((Acknowledged, Resolved))(random_.choice(("users/ana", "users/ben"))))
    await CountFigures(desk.db).everything()
    await as_by_hand(desk, made, name)
    for user_zone in (name, "UTC"):
        await lives_in(desk, user_zone)
        for start, end in stretches(change, random_):
            own = Question(start, end, "", (Group.USER,))
            there = replace(own, zone=user_zone)
            assert counted(await pages(desk, own)) == counted(await pages(desk, there)), (user_zone, start, end)


async def test_merged_incidents_count_as_what_their_own_timelines_say(desk: Desk) -> None:
    random_, change = random.Random(3), change_of_clocks("Europe/Berlin", 3)
    await at(desk, change - timedelta(hours=3))
    made: Made = {}
    for _ in range(30):
        await desk.passes(minutes=random_.choice((1, 4, 9, 20)))
        incident = await opens(desk, severity=random_.choice((1, 2, 4)))
        facts = (await desk.run(incident)).facts
        made[incident] = ("night", "", facts.severity, facts.create_time)
        await desk.sweep()
        await meddle(desk, list(made), random_)
        if random_.random() < 0.3:
            await CountFigures(desk.db, entries=3).everything()
    await CountFigures(desk.db, entries=3).everything()
    await as_by_hand(desk, made, "Europe/Berlin")
    [row] = await incidents(desk, ALL)
    assert row.opened == 30
    assert max(row.acknowledged, row.resolved, row.exhausted) <= 30, (
        "each incident counts once, whatever it is merged into"
    )


async def meddle(desk: Desk, made: list[UUID], random_: random.Random) -> None:
    """Something that people do; what cannot be is refused, and counts nothing."""
    one, other = random_.choice(made), random_.choice(made)
    await desk.passes(seconds=random_.randrange(90))
    match random_.randrange(5):
        case 0 | 1:
            await tries(merge(desk, one, other))
        case 2:
            await tries(unmerge(desk, one))
        case 3:
            await desk.take(one, Acknowledged("users/ben"))
        case _:
            await desk.take(one, Resolved("users/ana"))
            await desk.take(one, Unmerged("users/ana"))


async def tries(command: Awaitable[object]) -> None:
    with contextlib.suppress(TocsinError):
        await command


async def as_by_hand(desk: Desk, made: Made, zone: str) -> None:
    async with desk.db.transaction(ORG) as tx:
        timelines = {incident: await timeline.page(tx, incident, 0, 500) for incident in made}
    for groups in GROUPINGS:
        question = replace(ALL, zone=zone, groups=groups)
        assert await incidents(desk, question) == by_hand(made, timelines, question), groups
        by_user = replace(question, groups=(Group.USER, *groups))
        assert counted(await pages(desk, by_user)) == pages_by_hand(made, timelines, by_user), groups
    moments = [opened for *_, opened in made.values()]
    for start, end in stretches(sorted(moments)[len(moments) // 2], random.Random(zone)):
        part = Question(start, end, zone, (Group.USER, Group.POLICY))
        assert counted(await pages(desk, part)) == pages_by_hand(made, timelines, part), (start, end)


def stretches(around: datetime, random_: random.Random) -> Iterator[tuple[datetime, datetime]]:
    """Within a day, of whole days of UTC, and of neither."""
    middle = quarter_of(around)
    for quarters in (1, 7, 50, 96, 97, 300):
        start = middle - timedelta(minutes=15 * random_.randrange(quarters + 1))
        yield start, start + timedelta(minutes=15 * quarters)
    midnight = middle.replace(hour=0, minute=0)
    yield from pairwise(
        (midnight - timedelta(days=1), midnight, midnight + timedelta(days=1), midnight + timedelta(days=2))
    )


async def lives_in(desk: Desk, zone: str) -> None:
    async def work(tx: Tx) -> None:
        await tx.execute("UPDATE users SET time_zone = $1 WHERE org_id = $2", zone, tx.org_id)

    await desk.db.run(ORG, work)
