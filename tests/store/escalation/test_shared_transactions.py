"""Policies that name many schedules: they are refused when they are written, and those that exist delay no other tenant."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.incidents.apply_events import Result, apply_events
from tocsin_escalation.app.incidents.apply_outcomes import OutcomeArrival, OutcomeResult, apply_outcomes
from tocsin_escalation.app.incidents.decision_data import DecisionData
from tocsin_escalation.app.incidents.shared_transactions import MOST_LOOKED_AT, MOST_OF_TENANT, apart
from tocsin_escalation.app.people import people, policies
from tocsin_escalation.app.schedules import schedules
from tocsin_escalation.domain.escalation import Escalation
from tocsin_escalation.domain.events import Acknowledged, OutcomeKind, PageOutcome
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.model import Layer, Turn, Unit
from tocsin_escalation.domain.schedules.versions import Rollout
from tocsin_escalation.domain.schedules.work import MOST, MOST_TOGETHER, coming
from tocsin_escalation.store.people import directory
from tocsin_escalation.store.people import policies as policy_store
from tocsin_escalation.store.people.directory import UserRow
from tocsin_escalation.store.schedules import schedules as schedule_store
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_kit.db.outbox_rows import OutboxRow
from tocsin_kit.db.pool import Tx
from tocsin_kit.db.relay_verdicts import is_final, judge
from tocsin_kit.errors import TocsinError

from tests.store.escalation.recorders import ORG, Desk
from tests.unit.escalation.schedules.test_paging import dense
from tests.unit.escalation.schedules.writing import local

HEAVY = "umbrella"
NOW = datetime.now(UTC)


def layer(*line_up: str) -> Layer:
    return Layer("week", (Turn(Unit.WEEK, 1),), local("2026-01-05 09:00"), tuple((user,) for user in line_up), "UTC")


def schedule(id: str, *layers: Layer) -> ScheduleRow:
    return ScheduleRow(id, id, "", "UTC", False, layers or (layer("dora"),))


def naming(id: str, schedules: int, first: int = 0, **more: Any) -> Policy:
    """A policy of levels that name ten schedules each, `s0` and so on."""
    named = [Target(TargetKind.SCHEDULE, f"s{number}") for number in range(first, first + schedules)]
    levels = tuple(Level(tuple(named[at : at + 10]), timedelta(minutes=5)) for at in range(0, schedules, 10))
    return Policy(id, levels, **more)


async def write(desk: Desk, count: int, *policies_: Policy, org_id: str = HEAVY) -> None:
    """Schedules on which dora is on call, and policies as they were written before there was a rule."""

    async def work(tx: Tx) -> None:
        await people.create_user(tx, UserRow("dora", "Dora", "", False))
        await schedule_store.insert(tx, schedule("s0"))
        await tx.execute(
            """INSERT INTO schedules (org_id, id, display_name, description, time_zone, stand_in, layers)
               SELECT org_id, 's' || n, display_name, description, time_zone, stand_in, layers
                 FROM schedules, generate_series(1, $2) AS n WHERE org_id = $1 AND id = 's0'""",
            org_id,
            count - 1,
        )
        for policy in policies_:
            await policy_store.insert(tx, policy, policy.id, False)

    await desk.db.run(org_id, work)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The schedules that each transaction looked at, in order."""
    found: list[list[str]] = []
    at = directory._at

    def recording(loaded: Mapping[tuple[str, str], Any], minute: int) -> Any:
        found.append([f"{org}/{id}" for org, id in loaded])
        return at(loaded, minute)

    monkeypatch.setattr(directory, "_at", recording)
    return found


async def test_a_schedule_that_costs_too_much_is_refused_wherever_it_is_written_with_the_same_words(desk: Desk) -> None:
    users = sorted({user for group in dense(concurrent=1).layers[0].line_up for user in group})

    async def hire(tx: Tx) -> None:
        for user in users:
            await people.create_user(tx, UserRow(user, user, "", False))
        await schedules.create(tx, schedule("web", layer("ana")))

    await desk.db.run(ORG, hire)
    costly = dense(concurrent=1).layers
    told = set[str]()

    def costlier(row: ScheduleRow) -> ScheduleRow:
        return replace(row, layers=costly)

    for attempt in (
        desk.db.run(ORG, lambda tx: schedules.create(tx, schedule("costly", *costly))),
        desk.db.run(ORG, lambda tx: schedules.update(tx, "web", "", costlier, Rollout.NOW)),
        schedules.preview(desk.db, ORG, schedule("", *costly), Rollout.NOW, NOW, NOW + timedelta(days=1)),
        schedules.preview(desk.db, ORG, schedule("web", *costly), Rollout.NOW, NOW, NOW + timedelta(days=1)),
    ):
        with pytest.raises(TocsinError) as refused:
            await attempt
        [field] = refused.value.fields
        assert field.field == "schedule.layers"
        told.add(field.description)
    [words] = told
    assert f"may be {MOST} at most" in words
    await desk.db.run(ORG, lambda tx: schedule_store.insert(tx, schedule("old", *costly)))
    for layers in (costly, costly[1:]):

        async def change(tx: Tx, layers: tuple[Layer, ...] = layers) -> None:
            await schedules.update(
                tx, "old", "", lambda row: replace(row, display_name="Old", layers=layers), Rollout.NOW
            )

        await desk.db.run(ORG, change)


async def test_a_policy_whose_schedules_cost_too_much_together_is_refused_and_told_the_largest(desk: Desk) -> None:
    each = dense(concurrent=1).layers[:6]
    count = MOST_TOGETHER // coming(each) + 1
    await write(desk, count)

    async def grow(tx: Tx) -> None:
        await tx.execute(
            "UPDATE schedules SET layers = $1 WHERE org_id = $2", schedule_store.layers_to_json(each), HEAVY
        )

    await desk.db.run(HEAVY, grow)
    few, many = naming("p", count - 1), naming("p", count)
    await desk.asks(lambda tx, computations: policies.create(tx, few, "P", False, computations), org_id=HEAVY)

    async def create(tx: Tx, computations: Computations) -> None:
        await policies.create(tx, replace(many, id="q"), "Q", False, computations)

    async def update(tx: Tx, computations: Computations) -> None:
        await policies.update(tx, "p", "", lambda row: (many, "P", False), computations)

    async def check(tx: Tx, computations: Computations) -> None:
        await policies.check(tx, many, computations)

    for attempt in (create, update, check):
        with pytest.raises(TocsinError) as refused:
            await desk.asks(attempt, org_id=HEAVY)
        [field] = refused.value.fields
        assert field.field == "policy.levels"
        assert f"the {count} schedules" in field.description
        assert f"schedules/s0 with {coming(each)}" in field.description

    async def old(tx: Tx) -> None:
        await policy_store.update(tx, many, "P", False)
        await policies.update(
            tx, "p", "", lambda row: (replace(row.policy, repeat_count=3), "Old", False), Computations()
        )

    await desk.db.run(HEAVY, old)


async def test_incidents_of_policies_with_many_schedules_are_opened_after_those_of_others(
    desk: Desk, looked_at: list[list[str]]
) -> None:
    await write(desk, 60, naming("many", 60), naming("few", 2))
    await write(desk, 1, naming("web", 1), org_id=ORG)
    heavy = [desk.opening(policy="many", org_id=HEAVY) for _ in range(3)]
    light = [desk.opening(policy="web"), desk.opening(policy="few", org_id=HEAVY), desk.opening()]
    assert await apply_events(desk.db, desk.effects, [*heavy, *light]) == [Result.APPLIED] * 6
    first, *others = looked_at
    assert sorted(first) == ["acme/s0", "umbrella/s0", "umbrella/s1"], "nobody waits for the sixty"
    assert [len(each) for each in others] == [60], "one transaction for the three that need the same"
    for opened in (*heavy, *light):
        assert len(await desk.paged(opened.incident_id)) == 1


async def test_timers_of_policies_with_many_schedules_fire_after_those_of_others(
    desk: Desk, looked_at: list[list[str]]
) -> None:
    await write(desk, 60, naming("many", 60))
    await write(desk, 1, naming("web", 1, repeat_count=1), org_id=ORG)
    heavy, light = desk.opening(policy="many", org_id=HEAVY), desk.opening(policy="web")
    assert await apply_events(desk.db, desk.effects, [heavy, light]) == [Result.APPLIED] * 2
    looked_at.clear()
    await desk.passes(minutes=6)
    assert await desk.sweep() == 2
    assert [len(each) for each in looked_at] == [1, 60]
    for opened in (heavy, light):
        assert len(await desk.paged(opened.incident_id)) == 2


async def test_outcomes_of_policies_with_many_schedules_are_taken_after_those_of_others(
    desk: Desk, looked_at: list[list[str]]
) -> None:
    await write(desk, 60, naming("many", 60))
    await write(desk, 1, naming("web", 1, repeat_count=1), org_id=ORG)
    openings = [desk.opening(policy="many", org_id=HEAVY), desk.opening(policy="web")]
    assert await apply_events(desk.db, desk.effects, openings) == [Result.APPLIED] * 2
    looked_at.clear()
    told = []
    for opened in openings:
        [page] = (await desk.run(opened.incident_id)).pages
        outcome = PageOutcome(page, "dora", OutcomeKind.UNREACHABLE, 1, reason="no verified contact method")
        told.append(OutcomeArrival(opened.org_id, opened.incident_id, outcome))
    assert await apply_outcomes(desk.db, desk.effects, told) == [OutcomeResult.APPLIED] * 2
    assert [len(each) for each in looked_at] == [1, 60]
    for opened in openings:
        assert len(await desk.paged(opened.incident_id)) == 2


async def test_an_acknowledge_looks_at_no_schedule(desk: Desk, looked_at: list[list[str]]) -> None:
    await write(desk, 60, naming("many", 60))
    opened = desk.opening(policy="many", org_id=HEAVY)
    await apply_events(desk.db, desk.effects, [opened])
    looked_at.clear()
    await desk.take(opened.incident_id, Acknowledged("users/dora"), org_id=HEAVY)
    assert looked_at == []


async def test_of_one_incident_the_levels_that_come_next_are_looked_at_and_the_rest_says_that_it_is_not(
    desk: Desk, looked_at: list[list[str]]
) -> None:
    """A policy of 200 schedules that hands on to another one: no more than a transaction has time for, and no user is forgotten."""
    await write(desk, 400, naming("first", 200, next_policy="second"), naming("second", 200, first=200))
    opened = desk.opening(policy="first", org_id=HEAVY)
    assert await apply_events(desk.db, desk.effects, [opened]) == [Result.APPLIED]
    assert [len(each) for each in looked_at] == [MOST_LOOKED_AT]
    assert await desk.paged(opened.incident_id) == [(1, "dora")]
    for _ in range(20):
        await desk.passes(minutes=5, seconds=1)
        await desk.sweep()
    run = await desk.run(opened.incident_id)
    assert run.policy is not None
    assert (run.policy.id, run.level) == ("second", 1), (
        "the next policy is looked at before the levels that have passed"
    )
    assert await desk.paged(opened.incident_id) == [*((level, "dora") for level in range(1, 21)), (1, "dora")]
    assert max(map(len, looked_at)) == MOST_LOOKED_AT
    assert f"{HEAVY}/s399" in looked_at[20], "all of the next policy, when the last level of the first one ends"


async def test_an_opening_that_loses_the_database_delays_no_other_and_pages_without_its_schedules(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = naming("web", 1)
    beside = (*web.levels, Level((Target(TargetKind.USER, "ben"),), timedelta(minutes=5)))
    await write(desk, 1, replace(web, levels=beside), org_id=ORG)
    openings = [desk.opening(policy="web") for _ in range(5)]
    culprit = openings[2].incident_id
    read, lost = DecisionData.read, []

    async def losing(tx: Tx, runs: Mapping[UUID, Escalation], *rest: Any, **more: Any) -> DecisionData:
        if culprit in runs and more["most_schedules"]:
            lost.append(len(runs))
            await tx.fetchval("SELECT pg_terminate_backend(pg_backend_pid())")
        return await read(tx, runs, *rest, **more)

    monkeypatch.setattr(DecisionData, "read", losing)
    assert await apply_events(desk.db, desk.effects, openings) == [Result.APPLIED] * 5
    assert lost == [5, 3, 1, 1], "halved down to the one"
    for opened in openings:
        expected = [(2, "ben")] if opened.incident_id == culprit else [(1, "dora")]
        assert await desk.paged(opened.incident_id) == expected


@pytest.mark.parametrize("code", ["57014", "XX000", "53200", "57P01"])
async def test_an_opening_that_loses_the_database_each_time_is_sent_again_and_not_given_up(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """What is refused as a defect is given up after two seconds, and a server may be in trouble for longer."""

    async def losing(tx: Tx, *_: Any, **__: Any) -> DecisionData:
        await tx.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$")
        raise AssertionError("unreachable")

    monkeypatch.setattr(DecisionData, "read", losing)
    with pytest.raises(TocsinError) as caught:
        await apply_events(desk.db, desk.effects, [desk.opening()])
    row = OutboxRow(1, ORG, "", "incident_event", b"", NOW, 1000, refusals=1000)
    assert not is_final(row, judge(caught.value).verdict, accepts_others=True, has_substitute=True)


def test_incidents_that_share_a_transaction_name_few_schedules_and_one_is_always_taken() -> None:
    ids = [UUID(int=number) for number in range(6)]
    few = {ids[0]: [("a", "s0")], ids[1]: [("a", "s0"), ("a", "s1")], ids[2]: [], ids[3]: [("b", "s0")]}
    assert apart(few) == frozenset()
    heavy = [("b", f"s{number}") for number in range(MOST_OF_TENANT + 1)]
    assert apart({**few, ids[4]: heavy}) == {ids[4]}
    assert apart({ids[2]: [], ids[4]: heavy}) == frozenset(), "nobody waits for it"
    assert apart({ids[4]: heavy, ids[5]: [("c", id) for _, id in heavy]}) == {ids[5]}
    assert apart({ids[4]: heavy, ids[5]: heavy}) == frozenset(), "the same schedules are looked at once"
