"""Figures of the past: exact under concurrency, and as people would count them from the timelines by hand."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.figures.count_figures import CountFigures
from tocsin_escalation.app.figures.summaries import Summaries
from tocsin_escalation.app.incidents.advance import advance
from tocsin_escalation.app.incidents.apply_events import Result, apply_events
from tocsin_escalation.app.incidents.decision_data import Step
from tocsin_escalation.app.people import people, policies
from tocsin_escalation.domain.events import Acknowledged, Noted, Resolved, Unacknowledged
from tocsin_escalation.domain.figures import Group, IncidentFigures, PageFigures, Question
from tocsin_escalation.store.figures import counting, figures, page_figures
from tocsin_escalation.store.incidents import escalations, timeline
from tocsin_escalation.store.incidents.changes import Position
from tocsin_escalation.store.people.directory import TeamRow
from tocsin_kit.db.failures import unavailable
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError

from tests.store.escalation.ahead import SPRING, YEAR
from tests.store.escalation.figures_by_hand import by_hand, counted, pages_by_hand
from tests.store.escalation.recorders import ORG, POLICY, Desk

ALL = Question(datetime(YEAR - 2, 1, 1, tzinfo=UTC), datetime(YEAR + 2, 1, 1, tzinfo=UTC), "UTC", ())
ANA = Acknowledged("users/ana")


async def now(desk: Desk) -> datetime:
    async with desk.db.system() as tx:
        return await tx.now()


async def at(desk: Desk, moment: datetime) -> None:
    """The database's clock is moved forward to a moment."""
    await desk.passes(seconds=(moment - await now(desk)).total_seconds())


async def opens(desk: Desk, *, policy: str = "night", severity: int = 1, title: str = "db down") -> UUID:
    """An alert comes in, and ingest tells it at once."""
    arrival = desk.opening(policy=policy, severity=severity, title=title)
    facts = replace(arrival.event.facts, create_time=await now(desk))  # type: ignore[union-attr]
    arrival = replace(arrival, event=replace(arrival.event, facts=facts))  # type: ignore[arg-type]
    assert await apply_events(desk.db, desk.effects, [arrival]) == [Result.APPLIED]
    return arrival.incident_id


async def incidents(desk: Desk, question: Question = ALL, org_id: str = ORG) -> list[IncidentFigures]:
    async with desk.db.transaction(org_id) as tx:
        return await figures.of_incidents(tx, question, 1000)


async def pages(desk: Desk, question: Question = ALL, org_id: str = ORG) -> list[PageFigures]:
    async with desk.db.transaction(org_id) as tx:
        return await page_figures.of_pages(tx, question, 1000)


async def test_what_happened_to_an_incident_counts_where_it_was_opened(desk: Desk) -> None:
    """Opened at ten to midnight, ben woken after five minutes, acknowledged at ten past, resolved an hour later."""
    await at(desk, SPRING.replace(hour=23, minute=50))
    incident = await opens(desk)
    await desk.passes(minutes=5, seconds=1)
    await desk.sweep()
    await desk.passes(minutes=14, seconds=59)
    await desk.take(incident, Acknowledged("users/ben"))
    await CountFigures(desk.db).everything()
    await desk.passes(hours=1)
    await desk.take(incident, Resolved("users/ben"))
    for _ in range(2):  # a second round finds nothing to count
        await CountFigures(desk.db).everything()
    [row] = await incidents(desk, replace(ALL, groups=(Group.DAY, Group.POLICY, Group.SEVERITY)))
    assert (row.keys.first_day, row.keys.policy, row.keys.severity) == (SPRING.date(), "night", 1)
    assert (row.opened, row.acknowledged, row.resolved, row.exhausted) == (1, 1, 1, 0)
    assert row.acknowledge_ms == pytest.approx(20 * 60_000, abs=30_000)
    assert row.resolve_ms == pytest.approx(80 * 60_000, abs=30_000)
    ana, ben = await pages(desk, replace(ALL, groups=(Group.USER,)))
    assert (ana.keys.user, ana.pages, ana.acknowledged) == ("ana", 1, 0)
    assert (ben.keys.user, ben.pages, ben.acknowledged) == ("ben", 1, 1)


async def test_a_night_is_that_of_the_person_who_was_woken(desk: Desk) -> None:
    async def settle_in(tx: Tx) -> None:
        await people.update_user(tx, "ben", "", lambda ben: replace(ben, time_zone="Asia/Kathmandu"))

    await desk.db.run(ORG, settle_in)
    monday = SPRING + timedelta(days=-SPRING.weekday() % 7)
    await at(desk, monday.replace(hour=16, minute=20))  # 22:05 in Kathmandu, five and three quarter hours ahead
    await opens(desk)
    await desk.passes(minutes=6)
    await desk.sweep()
    await CountFigures(desk.db).everything()
    ana, ben = await pages(desk, replace(ALL, zone="", groups=(Group.USER, Group.HOUR_OF_DAY)))
    assert (ana.keys.hour_of_day, ana.business_hours, ana.off_hours, ana.sleep_hours) == (16, 1, 0, 0)
    assert (ben.keys.hour_of_day, ben.business_hours, ben.off_hours, ben.sleep_hours) == (22, 0, 0, 1)
    [both] = await pages(desk, replace(ALL, zone="Europe/Berlin"))
    assert (both.pages, both.interruptions, both.business_hours) == (2, 2, 2)


async def test_an_entry_that_commits_late_is_counted(desk: Desk) -> None:
    """Its number is smaller than those that were counted already."""
    first, second = await opens(desk), await opens(desk)
    async with desk.db.transaction(ORG) as tx:
        await advance(tx, [Step(first, ANA)], desk.effects)
        await desk.take(second, Acknowledged("users/ben"))
        await CountFigures(desk.db).everything()
    await CountFigures(desk.db).everything()
    [row] = await incidents(desk)
    assert (row.opened, row.acknowledged) == (2, 2)


async def test_two_replicas_that_count_at_once_count_once(desk: Desk) -> None:
    for incident in [await opens(desk) for _ in range(12)]:
        await desk.take(incident, ANA)
    replicas = [CountFigures(desk.db, entries=3) for _ in range(3)]
    await asyncio.gather(*(replica.everything() for replica in replicas))
    await replicas[0].everything()
    [row] = await incidents(desk)
    assert (row.opened, row.acknowledged) == (12, 12)
    [paged] = await pages(desk)
    assert (paged.pages, paged.acknowledged) == (12, 12)


async def test_a_replica_that_stands_still_while_it_counts_holds_up_no_other(desk: Desk) -> None:
    incident = await opens(desk)
    await CountFigures(desk.db).everything()
    await desk.take(incident, ANA)
    async with desk.db.transaction(ORG) as tx:
        assert await counting.begin(tx) is not None
        async with asyncio.timeout(30), desk.db.transaction(ORG) as other:
            await other.execute("SET LOCAL lock_timeout = 1")
            assert await counting.begin(other) is None
    await CountFigures(desk.db).everything()
    [row] = await incidents(desk)
    assert (row.opened, row.acknowledged) == (1, 1)


async def test_a_round_that_is_cut_off_counts_nothing_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    incident = await opens(desk)
    await desk.take(incident, ANA)
    with monkeypatch.context() as patch:
        patch.setattr(
            counting,
            "_MOVE",
            "SELECT 1 / (length($1::text) - length($1::text)) WHERE $2::bigint > 0 AND $3::bigint > 0",
        )
        await CountFigures(desk.db).everything()
        assert await incidents(desk) == []
    await CountFigures(desk.db).everything()
    [row] = await incidents(desk)
    assert (row.opened, row.acknowledged) == (1, 1)


@pytest.mark.parametrize("error", [ValueError("unreadable"), unavailable("the database has ended the transaction")])
async def test_a_tenant_that_cannot_be_counted_holds_up_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    await opens(desk)
    real = counting.count

    async def breaks(tx: Tx, place: counting.Place, end: Position) -> None:
        if tx.org_id == "aaa":
            raise error
        await real(tx, place, end)

    async with desk.db.system() as tx:  # another tenant, which comes first
        await tx.execute(
            """INSERT INTO timeline (org_id, incident_id, create_time, kind, actor, message, level, repeat, generation, state,
                 paged_users, pages, lateness_ms)
               SELECT 'aaa', incident_id, create_time, kind, actor, message, level, repeat, generation, state, paged_users, pages,
                 lateness_ms FROM timeline"""
        )
    monkeypatch.setattr(counting, "count", breaks)
    await CountFigures(desk.db).everything()
    [row] = await incidents(desk)
    assert row.opened == 1


async def test_questions_of_one_tenant_leave_places_for_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may keep PostgreSQL busy, so two are answered at once, and of one tenant one."""
    running: list[str] = []
    most, go = 0, asyncio.Event()

    async def slow(tx: Tx, question: Question, limit: int) -> list[IncidentFigures]:
        nonlocal most
        running.append(tx.org_id)
        most = max(most, len(running))
        await go.wait()
        running.remove(tx.org_id)
        return []

    monkeypatch.setattr(figures, "of_incidents", slow)
    summaries = Summaries(desk.db)
    asked = [asyncio.create_task(summaries.of_incidents(org, ALL, 1)) for org in ("a", "a", "a", "b", "c")]

    async def both() -> None:
        while sorted(running) != ["a", "b"]:
            await asyncio.sleep(0.001)

    async with asyncio.timeout(30):
        await both()
        go.set()
        await asyncio.gather(*asked)
    assert most == 2
    assert not summaries._lines, "nothing is kept of tenants that ask nothing"


async def test_on_another_server_what_was_counted_is_not_counted_again(desk: Desk) -> None:
    """A dump brings numbers of transactions that are higher than any here."""
    incident = await opens(desk)
    await CountFigures(desk.db).everything()
    async with desk.db.system() as tx:
        await tx.execute("UPDATE timeline SET transaction = transaction + 1000000")
        await tx.execute("UPDATE counting_places SET server = 'another', transaction = transaction + 1000000")
    await desk.passes(minutes=1)
    await CountFigures(desk.db).everything()
    await desk.take(incident, ANA)
    async with desk.db.system() as tx:  # as if the numbers of this server had come so far
        await tx.execute("UPDATE timeline SET transaction = 3 WHERE kind <> 'acknowledged'")
    await CountFigures(desk.db).everything()
    [row] = await incidents(desk)
    assert (row.opened, row.acknowledged) == (1, 1)
    [paged] = await pages(desk)
    assert (paged.pages, paged.acknowledged) == (1, 1)


async def test_on_another_server_that_is_further_pages_are_not_counted_again(desk: Desk) -> None:
    """Pages bear no mark of having been counted: only the time tells."""
    incident = await opens(desk)
    await CountFigures(desk.db).everything()
    async with desk.db.system() as tx:
        await tx.execute("UPDATE counting_places SET server = 'another'")
    await desk.passes(minutes=1)
    await CountFigures(desk.db).everything()
    await desk.take(incident, ANA)
    await CountFigures(desk.db).everything()
    [paged] = await pages(desk)
    assert (paged.pages, paged.acknowledged) == (1, 1)


async def test_figures_are_a_tenants_own_and_outlast_its_incidents(desk: Desk) -> None:
    incident = await opens(desk)
    await desk.take(incident, Resolved("users/ana"))
    await CountFigures(desk.db).everything()
    await desk.passes(days=91)
    async with desk.db.system() as tx:
        assert await escalations.delete_resolved(tx, 100, older_than_days=90) == 1
        assert await tx.fetchval("SELECT count(*) FROM counted_incidents") == 0
    [row] = await incidents(desk)
    assert row.resolved == 1
    assert not await incidents(desk, org_id="other")
    assert not await pages(desk, org_id="other")
    async with desk.db.system() as tx:
        assert await counting.delete_old(tx, 100, days=92) == 0
    await desk.passes(days=2)
    async with desk.db.system() as tx:
        assert await counting.delete_old(tx, 100, days=92) == 2
        assert await tx.fetchval("SELECT count(*) FROM person_days") == 0
    assert await incidents(desk) == []


async def test_a_zone_that_the_database_does_not_know_is_named(desk: Desk) -> None:
    await opens(desk)
    await CountFigures(desk.db).everything()
    with pytest.raises(TocsinError, match="time_zone"):
        await incidents(desk, replace(ALL, zone="Mars/Olympus", groups=(Group.DAY,)))


ZONES = ("UTC", "America/St_Johns", "Asia/Kathmandu", "Pacific/Chatham", "Australia/Lord_Howe", "Europe/Berlin")


async def test_any_summary_is_what_the_timelines_say(desk: Desk) -> None:
    """Against a count in Python of the timelines themselves, over two changes of the clocks."""
    random_ = random.Random(7)

    async def day_shift(tx: Tx) -> None:
        await people.create_team(tx, TeamRow("web", "Web", ("ana", "ben")))
        await policies.create(tx, replace(POLICY, id="day", team="web"), "Day", False, Computations())

    await desk.db.run(ORG, day_shift)
    await at(desk, SPRING + timedelta(days=9))
    made: dict[UUID, tuple[str, str, int, datetime]] = {}
    for _ in range(40):
        await desk.passes(minutes=random_.choice((1, 7, 240, 3000)))
        policy, severity = random_.choice((("night", ""), ("day", "web"))), random_.choice((1, 2, 4))
        incident = await opens(desk, policy=policy[0], severity=severity)
        made[incident] = (*policy, severity, (await desk.run(incident)).facts.create_time)
        for _ in range(random_.randrange(4)):
            await desk.passes(minutes=random_.choice((0, 1, 6, 30)))
            await desk.sweep()
            other = random_.choice(list(made))
            user = random_.choice(("users/ana", "users/ben"))
            await desk.take(other, random_.choice((Acknowledged, Resolved, Unacknowledged))(user))
            await desk.take(other, Noted(user, "look"))
            if random_.random() < 0.2:
                await CountFigures(desk.db, entries=5).everything()
    await CountFigures(desk.db, entries=5).everything()
    async with desk.db.transaction(ORG) as tx:
        timelines = {incident: await timeline.page(tx, incident, 0, 500) for incident in made}
    for groups in (
        (),
        (Group.DAY,),
        (Group.WEEK, Group.POLICY),
        (Group.MONTH, Group.TEAM, Group.DAY_OF_WEEK),
        (Group.HOUR_OF_DAY,),
    ):
        zone = random_.choice(ZONES)
        question = replace(ALL, zone=zone, groups=groups)
        assert await incidents(desk, question) == by_hand(made, timelines, question)
        by_user = replace(question, groups=(Group.USER, *groups))
        assert counted(await pages(desk, by_user)) == pages_by_hand(made, timelines, by_user)
    for zone in ZONES:
        start = SPRING + timedelta(days=random_.randrange(-10, 40), minutes=15 * random_.randrange(96))
        end = start + timedelta(minutes=15 * random_.choice((3, 90, 200, 2000, 20_000)))
        by_policy = Question(start, end, zone, (Group.USER, Group.POLICY))
        assert counted(await pages(desk, by_policy)) == pages_by_hand(made, timelines, by_policy), by_policy
    await days_are_those_of_the_quarters(desk)
    async with desk.db.system() as tx:
        await tx.execute("DELETE FROM person_figures WHERE extract(minute FROM quarter) < 30 OR user_id = 'ben'")
    await days_are_those_of_the_quarters(desk)
    only = replace(ALL, policies=("day",), severities=(1, 4))
    assert await incidents(desk, only) == by_hand(
        {key: each for key, each in made.items() if each[0] == "day" and each[2] != 2}, timelines, only
    )


async def days_are_those_of_the_quarters(desk: Desk) -> None:
    """After every insert, change or deletion."""
    async with desk.db.system() as tx:
        kept = await tx.fetch(
            "SELECT day, user_id, policy_id, team, pages, acknowledged, quarters::text FROM person_days"
        )
        quarters = await tx.fetch("SELECT quarter, user_id, policy_id, team, pages, acknowledged FROM person_figures")
    days: dict[tuple[object, ...], tuple[int, int, set[int]]] = {}
    for quarter, *of, pages_, acknowledged in quarters:
        number = (quarter.hour * 60 + quarter.minute) // 15
        before = days.get((quarter.date(), *of), (0, 0, set()))
        days[quarter.date(), *of] = (
            before[0] + pages_,
            before[1] + acknowledged,
            before[2] | ({number} if pages_ else set()),
        )
    assert days, "there is something to compare"
    assert {tuple(row[:4]): (row[4], row[5], {n for n in range(96) if row[6][n] == "1"}) for row in kept} == days
