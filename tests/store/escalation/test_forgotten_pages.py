"""A page that notify does not know any more is handed to it again, as it was; one that it knows, or that is not wanted, is not.

And what escalation has forgotten: that it stopped the pages of an incident, which notify knows.
"""

import json
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from tocsin.notify.v1.internal_service_pb2 import Cancellation
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.incidents.apply_outcomes import OutcomeArrival, apply_outcomes
from tocsin_escalation.app.incidents.reconcile_pages import PageReconciler
from tocsin_escalation.app.people import people
from tocsin_escalation.app.people import policies as writing
from tocsin_escalation.domain.escalation import Reached, State
from tocsin_escalation.domain.events import (
    Acknowledged,
    Escalated,
    Event,
    Merged,
    OutcomeKind,
    PageOutcome,
    Reassigned,
    Resolved,
    RespondersAdded,
    Restarted,
    Snoozed,
    Unacknowledged,
)
from tocsin_escalation.domain.paging import open_pages
from tocsin_escalation.domain.policy import Level, Policy, Target, TargetKind
from tocsin_escalation.store.people.directory import UserRow
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError

from tests.store.escalation.recorders import ORG, Desk

ANA = "users/ana"
CEM = Target(TargetKind.USER, "cem")


class Forgetful:
    """Notify, which knows these pages."""

    def __init__(self) -> None:
        self.known: set[tuple[str, UUID]] = set()
        self.knows_all = False
        self.stopped = 0
        """Up to this generation, of whatever incident."""

    async def knows(self, pages: Sequence[tuple[str, UUID]]) -> list[int | None]:
        assert pages
        return [self.stopped if self.knows_all or each in self.known else None for each in pages]


async def handed_over(desk: Desk) -> list[NotificationJob]:
    """Every page, in the order in which it was handed over."""
    async with desk.db.system() as tx:
        rows = await tx.fetch("SELECT payload FROM outbox WHERE kind = 'page' ORDER BY id")
    return [NotificationJob.FromString(row["payload"]) for row in rows]


def reconciler(desk: Desk, notify: Forgetful | None = None, grace: float = 0.0) -> PageReconciler:
    return PageReconciler(desk.db, notify or Forgetful(), desk.effects, lambda: None, grace=grace)


async def notify_has_them(desk: Desk) -> None:
    """Every page was taken, so that its row is gone."""
    async with desk.db.system() as tx:
        await tx.execute("DELETE FROM outbox WHERE kind = 'page'")


async def notes(desk: Desk, incident: UUID) -> int:
    return (await desk.said(incident)).count("note")


@pytest.mark.parametrize(
    "events",
    [
        [],
        [Escalated("users/dora")],
        [RespondersAdded(ANA, (CEM,))],
        [Escalated("users/dora"), RespondersAdded(ANA, (CEM,))],
        [Reassigned(ANA, targets=(CEM, Target(TargetKind.USER, "ana")))],
        [Reassigned(ANA, targets=(Target(TargetKind.TEAM, "gone"),))],
        [Acknowledged("users/ben"), Unacknowledged("users/ben")],
        [Restarted("users/ben")],
    ],
)
async def test_it_is_the_same_page(desk: Desk, events: Sequence[Event]) -> None:
    async def add(tx: Tx) -> None:
        await people.create_user(tx, UserRow("cem", "cem", "", False))

    await desk.db.run(ORG, add)
    incident = await desk.opens()
    for event in events:
        await desk.take(incident, event)
    before = await handed_over(desk)
    run = await desk.run(incident)
    open_ = {f"pages/{page}" for page in run.pages}
    report = await reconciler(desk).all_now(mend=True)
    again = (await handed_over(desk))[len(before) :]
    assert {job.page for job in again} == open_ == {f"pages/{page}" for page in report.handed}
    for job in again:
        [first] = [each for each in before if each.page == job.page]
        late = abs(job.planned_time.ToDatetime() - first.planned_time.ToDatetime())
        assert late < timedelta(minutes=1), "the one is when it was stored, the other when it was sent"
        job.planned_time.CopyFrom(first.planned_time)
        assert job == first
    assert await desk.run(incident) == run, "nothing else has changed"
    assert await notes(desk, incident) == len(open_)


async def test_so_is_that_of_the_fallback_target(desk: Desk) -> None:
    policy = Policy(
        "last",
        (Level((Target(TargetKind.USER, "ana"),), timedelta(minutes=5)),),
        fallback_target=Target(TargetKind.USER, "ben"),
    )

    async def make(tx: Tx) -> None:
        await writing.create(tx, policy, "Last", False, Computations())

    await desk.db.run(ORG, make)
    incident = await desk.opens(policy="last")
    await desk.passes(minutes=6)
    await desk.sweep()
    run, before = await desk.run(incident), await handed_over(desk)
    assert run.state is State.EXHAUSTED
    await reconciler(desk).all_now(mend=True)
    again = (await handed_over(desk))[len(before) :]
    assert {(job.page, job.user, job.level) for job in again} == {(job.page, job.user, job.level) for job in before}


@pytest.mark.parametrize(
    "event", [Acknowledged(ANA), Resolved(ANA), Snoozed(ANA, timedelta(minutes=5)), Merged(ANA, uuid4())]
)
async def test_what_was_stopped_is_not(desk: Desk, event: Event) -> None:
    incident = await desk.opens()
    if isinstance(event, Merged):
        event = Merged(ANA, await desk.opens())
        [other] = (await desk.run(event.into)).pages
        notify = Forgetful()
        notify.known.add((ORG, other))
    else:
        notify = Forgetful()
    await desk.take(incident, event)
    before = len(await handed_over(desk))
    assert (await reconciler(desk, notify).all_now(mend=True)).handed == set()
    assert len(await handed_over(desk)) == before


async def test_nor_is_what_it_knows_or_what_was_heard_of(desk: Desk) -> None:
    known, sent, forgotten = [await desk.opens() for _ in range(3)]
    notify = Forgetful()
    for incident in (known, sent):
        [page] = (await desk.run(incident)).pages
        if incident == known:
            notify.known.add((ORG, page))
            continue
        await apply_outcomes(
            desk.db, desk.effects, [OutcomeArrival(ORG, incident, PageOutcome(page, "ana", OutcomeKind.SENT, 1))]
        )
    report = await reconciler(desk, notify).all_now(mend=True)
    assert (report.compared, report.handed) == (2, set((await desk.run(forgotten)).pages))


async def test_a_dry_run_only_tells_and_twice_is_once(desk: Desk) -> None:
    """What notify refuses for good is not to become a dead message at every look; a second restore finds it an hour later."""
    incident = await desk.opens()
    looks = reconciler(desk)
    report = await looks.all_now(mend=False)
    assert (len(report.found), report.handed, await notes(desk, incident)) == (1, set(), 0)
    assert len((await looks.all_now(mend=True)).handed) == 1
    assert (await looks.all_now(mend=True)).handed == set()
    assert (await reconciler(desk).all_now(mend=True)).handed == set(), "another replica"
    await desk.passes(minutes=61)
    assert len((await looks.all_now(mend=True)).handed) == 1


async def test_an_old_one_is_not(desk: Desk) -> None:
    """Notify may have deleted it as old."""
    await desk.opens()
    await desk.passes(hours=25)
    report = await reconciler(desk).all_now(mend=True)
    assert (len(report.found), report.handed) == (1, set())


async def test_a_round_waits_for_the_grace(desk: Desk) -> None:
    incident = await desk.opens()
    await notify_has_them(desk)
    patient, quick = reconciler(desk, grace=3600.0), reconciler(desk)
    for _ in range(3):
        await patient.round()
    assert await notes(desk, incident) == 0
    await quick.round()
    assert await notes(desk, incident) == 0, "seen once, it may be on its way"
    await quick.round()
    assert await notes(desk, incident) == 1


async def test_a_page_that_is_held_up_on_its_way_is_not_forgotten(desk: Desk) -> None:
    """As while notify is away, or works off a storm: what was handed over again would only be more to do."""
    incident = await desk.opens()
    looks = reconciler(desk, grace=0.0)
    for _ in range(3):
        await desk.passes(minutes=1)
        await looks.round()
    assert await notes(desk, incident) == 0
    await notify_has_them(desk)
    for _ in range(2):
        await looks.round()
    assert await notes(desk, incident) == 1


async def test_rounds_go_on_where_the_last_one_ended(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin_escalation.app.incidents.reconcile_pages.BATCH", 1)
    monkeypatch.setattr("tocsin_escalation.app.incidents.reconcile_pages._BATCHES_A_ROUND", 2)
    incidents = [await desk.opens() for _ in range(5)]
    await notify_has_them(desk)
    looks = reconciler(desk)
    # Without a grace, what a round has just handed over holds up the rest of it: one page of the two in each round.
    for _ in range(12):
        await looks.round()
        await notify_has_them(desk)
    assert [await notes(desk, each) for each in incidents] == [1] * 5


ANSWERS: list[Event] = [
    Acknowledged(ANA),
    Snoozed(ANA, timedelta(minutes=5)),
    Escalated(ANA),
    Reassigned(ANA, (CEM,)),
    Restarted(ANA),
    Merged(ANA, uuid4()),
    Resolved(ANA),
]
"""Each stops the pages of the incident, or Ana's."""


class Answered:
    """A person answered, notify stopped the pages, and a standby took over here that lacks the answer."""

    def __init__(self, desk: Desk, incident: UUID) -> None:
        self.desk, self.incident = desk, incident
        self.notify = Forgetful()
        self.notify.knows_all = True

    async def by(self, event: Event) -> None:
        if isinstance(event, Merged):
            event = Merged(ANA, await self.desk.opens())
        tables = ("escalations", "timers")
        async with self.desk.db.system() as tx:
            rows = [
                await tx.fetchval(f"SELECT to_jsonb(r) FROM {table} r WHERE incident_id = $1", self.incident)
                for table in tables
            ]
        assert not isinstance(await self.desk.take(self.incident, event), TocsinError)
        async with self.desk.db.system() as tx:
            [stop] = await tx.fetch("SELECT payload FROM outbox WHERE kind = 'cancel'")
            await tx.execute("DELETE FROM outbox")
            await tx.execute("DELETE FROM timers WHERE incident_id = $1", self.incident)
            await tx.execute("INSERT INTO timers SELECT (jsonb_populate_record(NULL::timers, $1)).*", rows[1])
            columns = ", ".join(json.loads(rows[0]))
            await tx.execute(
                f"""UPDATE escalations SET ({columns}) = (SELECT {columns} FROM jsonb_populate_record(NULL::escalations, $2))
                    WHERE incident_id = $1""",
                self.incident,
                rows[0],
            )
        told = Cancellation.FromString(stop["payload"])
        self.notify.stopped = told.own.generation or told.generation


@pytest.mark.parametrize("event", ANSWERS, ids=lambda event: type(event).__name__)
async def test_an_incident_whose_answer_is_lost_is_paged_again_in_a_generation_that_was_never_stopped(
    desk: Desk, event: Event
) -> None:
    """Without more, each of its pages would be stored as cancelled, at each of its levels, and nobody would hear of it any more."""
    incident = await desk.opens()
    answered = Answered(desk, incident)
    await answered.by(event)
    report = await reconciler(desk, answered.notify).all_now(mend=True)
    assert incident in [each.incident_id for each in report.stopped]
    [job] = [each for each in await handed_over(desk) if each.incident == f"incidents/{incident}"]
    run = await desk.run(incident)
    assert (job.user, job.level, run.state) == (ANA, 1, State.TRIGGERED)
    assert job.generation == run.generation > answered.notify.stopped
    assert run.timer is not None
    assert run.timer.generation == run.generation, "it goes on to its next level"
    assert (await reconciler(desk, answered.notify).all_now(mend=True)).stopped == [], "once"


async def test_one_that_was_exhausted_by_then_is_paged_again(desk: Desk) -> None:
    incident = await desk.opens()
    answered = Answered(desk, incident)
    await answered.by(Acknowledged(ANA))
    for _ in range(2):
        await desk.passes(minutes=6)
        await desk.sweep()
    assert (await desk.run(incident)).state is State.EXHAUSTED
    await reconciler(desk, answered.notify).all_now(mend=True)
    assert (await desk.run(incident)).state is State.TRIGGERED


@pytest.mark.parametrize("event", ANSWERS, ids=lambda event: type(event).__name__)
async def test_an_answer_that_is_not_lost_pages_no_user(desk: Desk, event: Event) -> None:
    """Also if notify is asked before it, and says afterwards that the pages are stopped."""
    incident = await desk.opens()
    if isinstance(event, Merged):
        event = Merged(ANA, await desk.opens())
    notify = Forgetful()
    notify.knows_all = True
    notify.stopped = (await desk.run(incident)).generation
    looks = reconciler(desk, notify)
    seen = await looks._look(None)
    await desk.take(incident, event)
    run, handed = await desk.run(incident), len(await handed_over(desk))
    assert [each for each in await looks._begin_beyond(seen.stopped) if each.incident_id == incident] == []
    assert await desk.run(incident) == run
    if not isinstance(event, Merged):
        assert len(await handed_over(desk)) == handed


async def test_ingest_has_time_to_close_what_is_over(desk: Desk) -> None:
    incident = await desk.opens()
    answered = Answered(desk, incident)
    await answered.by(Resolved(ANA))
    patient, quick = reconciler(desk, answered.notify, grace=3600.0), reconciler(desk, answered.notify)
    for looks in (patient, patient, patient, quick):
        await looks.round()
        assert await handed_over(desk) == []
    await quick.round()
    assert len(await handed_over(desk)) == 1


async def test_the_page_of_who_passed_it_on_is_not_handed_over_again(desk: Desk) -> None:
    """Notify was restored: it knows neither the page nor that it was stopped."""
    incident = await desk.opens()
    [own] = (await desk.run(incident)).pages
    await desk.take(incident, Escalated(ANA))
    others = set((await desk.run(incident)).pages) - {own}
    assert (await reconciler(desk).all_now(mend=True)).handed == others


async def test_the_stopped_page_of_who_passed_it_on_is_not_waited_for(desk: Desk) -> None:
    """It was never accepted, and all others have failed: nobody was reached, and this is said."""
    incident = await desk.opens()
    [own] = (await desk.run(incident)).pages
    await desk.take(incident, Escalated(ANA))
    others = set((await desk.run(incident)).pages) - {own}
    failed = [OutcomeArrival(ORG, incident, PageOutcome(page, "ben", OutcomeKind.FAILED, 2)) for page in others]
    await apply_outcomes(desk.db, desk.effects, failed)
    run = await desk.run(incident)
    assert (run.state, run.reached, set(open_pages(run))) == (State.EXHAUSTED, Reached.UNKNOWN, {own})
    notify = Forgetful()
    notify.known.add((ORG, own))
    quick = reconciler(desk, notify)
    await quick.round()
    await quick.round()
    assert (await desk.run(incident)).reached is Reached.UNKNOWN, "it may still be sent"
    notify.stopped = 1
    patient, quick = reconciler(desk, notify, grace=3600.0), reconciler(desk, notify)
    for looks in (patient, patient, patient, quick):
        await looks.round()
        assert (await desk.run(incident)).reached is Reached.UNKNOWN, "an attempt may be under way"
    await quick.round()
    run = await desk.run(incident)
    assert (run.reached, open_pages(run)) == (Reached.NOBODY, {})
    assert (await desk.said(incident))[-1] == "nobody_reached"
