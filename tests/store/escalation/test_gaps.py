"""Gaps of schedules on a real database: a level that waits, and the warning before it has to."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.foresight import coverage, gap_warnings
from tocsin_escalation.app.people import policies
from tocsin_escalation.app.schedules import gaps, overrides, schedules
from tocsin_escalation.domain.events import Noted
from tocsin_escalation.domain.policy import GapChoice, Level, Policy, Target, TargetKind
from tocsin_escalation.domain.schedules.model import Layer, Scope, Turn, Unit
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError

from tests.store.escalation.recorders import ORG, Desk
from tests.unit.escalation.schedules.writing import group, local

WEB = Target(TargetKind.SCHEDULE, "web")


async def write(desk: Desk, begins: datetime, policy: Policy) -> None:
    """A schedule of the policy's id on which ana comes on call at `begins`, and a policy that pages it."""
    start = local(f"{begins:%Y-%m-%d %H:%M}")
    layer = Layer("week", (Turn(Unit.WEEK, 1),), start, (group("ana"),), "UTC")

    async def work(tx: Tx) -> None:
        await schedules.create(tx, ScheduleRow(policy.id, "Web", "", "UTC", False, (layer,)))
        await policies.create(tx, policy, "Web", False, Computations())

    await desk.db.run(ORG, work)


async def test_a_held_level_pages_whom_an_override_puts_there_and_its_etag_stays(desk: Desk) -> None:
    now = datetime.now(UTC)
    policy = Policy("web", (Level((WEB,), timedelta(minutes=5)),), on_gap=GapChoice.HOLD)
    await write(desk, now + timedelta(days=3), policy)
    incident = await desk.opens(policy="web")
    assert await desk.said(incident) == ["opened", "level_held"]
    before = await desk.run(incident)
    for _ in range(3):
        await desk.passes(minutes=1, seconds=1)
        assert await desk.sweep() == 1
    after = await desk.run(incident)
    assert (after.version, await desk.said(incident)) == (before.version, ["opened", "level_held"])
    assert after.timer is not None
    assert before.timer is not None
    assert after.timer.due_time > before.timer.due_time
    assert desk.arming.armed[incident].timer_id == after.timer.id, "the next look is in Redis, too"

    row = OverrideRow(uuid4(), "web", now, now + timedelta(hours=9), Scope.SCHEDULE, "", ("ben",), "", "users/ana")
    await desk.db.run(ORG, lambda tx: overrides.create_override(tx, row))
    await desk.passes(minutes=1, seconds=1)
    await desk.sweep()
    assert await desk.paged(incident) == [(1, "ben")]
    await desk.take(incident, Noted("users/ben", "on it"), etag="")
    counted = desk.effects.metrics.gaps_met.labels("hold")
    assert counted._value.get() == 1, "a gap counts once, however often it is looked at"


async def test_a_gap_of_the_coming_days_is_warned_of_and_counted(desk: Desk) -> None:
    now = datetime.now(UTC)
    levels = (Level((WEB,), timedelta(minutes=5)), Level((WEB, Target(TargetKind.USER, "ben")), timedelta(minutes=5)))
    policy = Policy("web", levels, on_gap=GapChoice.HOLD)
    await write(desk, now + timedelta(days=3), policy)
    [found] = await gap_warnings.of_policies(desk.db, ORG, [policy], 7)
    [warned] = found or ()
    assert (warned.level, warned.target) == (1, WEB), "ben is paged whatever the schedule says"
    until = f"to {now + timedelta(days=3):%Y-%m-%d %H:%M} UTC, a gap of schedules/web: the level waits"
    assert until in warned.message
    watch = gaps.Watch(desk.db, desk.effects.metrics, 7)
    await watch.look()
    assert desk.effects.metrics.gaps_ahead._value.get() == 1
    await desk.passes(days=4)
    await watch.look()
    assert desk.effects.metrics.gaps_ahead._value.get() == 0
    assert await gap_warnings.of_policies(desk.db, ORG, [policy], 7) == [()]


async def test_what_would_cost_too_much_beside_others_is_not_looked_at_and_says_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = datetime.now(UTC) + timedelta(days=3)
    web, db = (
        Policy(name, (Level((Target(TargetKind.SCHEDULE, name),), timedelta(minutes=5)),)) for name in ("web", "db")
    )
    for each in (web, db):
        await write(desk, later, each)
    nothing = Policy("ana", (Level((Target(TargetKind.USER, "ana"),), timedelta(minutes=5)),))
    wanted = [web, db, nothing, replace(web, id="again")]

    async def warned() -> list[list[int] | None]:
        found = await gap_warnings.of_policies(desk.db, ORG, wanted, 7)
        return [None if each is None else [one.level for one in each] for each in found]

    assert await warned() == [[1], [1], [], [1]]
    monkeypatch.setattr(gap_warnings, "SCHEDULES_AT_ONCE", 1)
    assert await warned() == [[1], None, [], [1]]
    monkeypatch.undo()
    monkeypatch.setattr(gap_warnings, "WORK_AT_ONCE", 0)
    assert await warned() == [None, None, [], None]


@pytest.mark.parametrize(
    ("bound", "pages"),
    [
        ("WORK_AT_ONCE", [["db"], ["mail"], ["web"], ["zoo"]]),
        ("SCHEDULES_AT_ONCE", [["db"], ["mail"], ["web"], ["zoo"]]),
    ],
)
async def test_a_page_of_coverage_is_bounded_and_the_next_one_goes_on(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, bound: str, pages: list[list[str]]
) -> None:
    now = datetime.now(UTC)
    names = ("db", "mail", "web", "zoo")
    for name in names:
        target = Target(TargetKind.SCHEDULE, name) if name != "zoo" else Target(TargetKind.USER, "ana")
        # What it is handed on to counts as well.
        next_policy = "db" if name == "zoo" else ""
        await write(desk, now, Policy(name, (Level((target,), timedelta(minutes=5)),), next_policy=next_policy))
    monkeypatch.setattr(coverage, bound, 1)

    async def read(limit: int) -> list[list[str]]:
        found, after = [], ""
        while True:
            page, after = await coverage.of_policies(desk.db, ORG, names, now, now + timedelta(days=35), after, limit)
            found.append([each.policy for each in page])
            if not after:
                return found

    assert await read(9) == pages
    monkeypatch.undo()
    assert await read(9) == [list(names)]
    broken = "UPDATE policies SET definition = '{}' WHERE id IN ('mail', 'web')"
    await desk.db.run(ORG, lambda tx: tx.execute(broken))
    assert await read(1) == [["db"], ["zoo"]], "those that cannot be read are passed over"


async def test_a_fallback_for_gaps_must_be_named(desk: Desk) -> None:
    policy = Policy("web", (Level((Target(TargetKind.USER, "ana"),), timedelta(minutes=5)),), on_gap=GapChoice.FALLBACK)
    with pytest.raises(TocsinError) as refused:
        await desk.db.run(ORG, lambda tx: policies.create(tx, policy, "Web", False, Computations()))
    assert refused.value.fields[0].field == "policy.fallback_target"
