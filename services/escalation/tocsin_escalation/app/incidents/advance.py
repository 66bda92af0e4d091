"""The only writer of escalations: lock, decide, save, with all consequences in the same transaction.

RPCs, timers and ingest's events are all written here, one or a thousand at a time.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.db import outbox
from tocsin_kit.db.pool import SYSTEM, OneRoundTrip, Tx
from tocsin_kit.errors import TocsinError, not_found
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger
from tocsin_kit.rpc.masks import require_etag
from tocsin_kit.time_slices import TimeSlice

from tocsin_escalation.app.incidents import followers, incident_events, jobs, journal_notes, publish_notes
from tocsin_escalation.app.incidents.decision_data import DecisionData, Step
from tocsin_escalation.app.incidents.effects import Effects
from tocsin_escalation.app.incidents.step_refusals import refused
from tocsin_escalation.domain import merging
from tocsin_escalation.domain.decide import decide
from tocsin_escalation.domain.decision import Decision, Note, NoteKind, Page, StopPages, TurnTaken
from tocsin_escalation.domain.escalation import Escalation, TimerKind, changed
from tocsin_escalation.domain.events import Noted, Resolved
from tocsin_escalation.domain.policy import Directory
from tocsin_escalation.domain.turns import taken
from tocsin_escalation.store.incidents import escalations, feeds, pages, timeline, timers, turns
from tocsin_escalation.store.incidents.timeline import Entry

_log = get_logger(__name__)

# How long the fast way has before the relay sends the row by RPC. The fast way is Redis for a page, and the committing caller's
# own call for a cancellation. Both ways are always used: notify recognises a page by its id, and a stopped incident by its
# generation.
SURE_WAY_SECONDS: Final = 1.0


_SLICE_SECONDS: Final = 0.002
"""In a storm a transaction decides hundreds of incidents. Between two of them calls of other tenants run, which need many short
iterations of the event loop."""
_NOBODY: Final = Directory()


class Overtaken(Exception):
    """Another transaction has made one of the new incidents meanwhile. This one must roll back and start again."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """The result of a step: the escalation after it, when it changed, and whether the command found it done already."""

    run: Escalation
    update_time: datetime
    already: bool
    entries: tuple[Entry, ...] = ()
    before: Escalation | None = None
    """As the step found it."""


async def advance(
    tx: Tx,
    steps: Sequence[Step],
    effects: Effects,
    known: DecisionData | None = None,
    *,
    entries: bool = True,
    confirms: bool = False,
) -> list[Advanced | TocsinError]:
    """Apply every step in order; each gets its result, or the error to show; none of them raises.

    Steps of one incident see each other. A refused step changes nothing; the others are applied. `known`: the rows that this
    transaction has locked and read already. Raises Overtaken. Without `entries` the results carry no timeline entries: cheaper,
    for callers that do not read them. `confirms`: the caller itself sends the cancellations to notify right after the commit
    (`app.incidents.confirm`); the relay does so a second later.
    """
    of_merged: list[Step] = []
    if known is None:
        known, steps, of_merged = await _locked(tx, steps)
    work = _Work(dict(known.runs), await tx.now(), dict(known.people), tx.org_id, known.feed_tenants)
    time_slice = TimeSlice(_SLICE_SECONDS)
    answers = list[Advanced | TocsinError]()
    for step in steps:
        answers.append(work.take_answer(step))
        await time_slice.yield_if_over()
    for step in of_merged:
        work.take(step)
    await work.write(tx, effects, time_slice, entries=entries, confirms=confirms)
    if not entries:
        return answers
    return [
        replace(answer, entries=tuple(work.entries.get(answer.run.incident_id, ())))
        if isinstance(answer, Advanced)
        else answer
        for answer in answers
    ]


async def _locked(tx: Tx, steps: Sequence[Step]) -> tuple[DecisionData, list[Step], list[Step]]:
    """What decisions need, with the incidents locked; the steps, each for the incident that it is passed on to; and those that
    follow from them."""
    kin = any(step.answers or isinstance(step.event, Resolved | Noted) for step in steps)
    runs = await escalations.lock(tx, list({step.incident_id for step in steps}), kin=kin)
    taken = [_passed_on(step, runs) for step in steps]
    of_merged = steps_of_merged(taken, runs)
    return await DecisionData.read(tx, runs, [*taken, *of_merged]), taken, of_merged


def _passed_on(step: Step, runs: Mapping[UUID, Escalation]) -> Step:
    if not step.answers:
        return step
    into, event = merging.pass_on(step.incident_id, step.event, runs)
    return replace(step, incident_id=into, event=event)


def steps_of_merged(steps: Iterable[Step], runs: Mapping[UUID, Escalation]) -> list[Step]:
    """Steps for incidents that are merged with those of the given steps. `runs` were locked together with these."""
    found = merging.events_of_merged([(step.incident_id, step.event) for step in steps], runs)
    return [Step(id, event, org_id=runs[id].org_id) for id, event in found if id in runs]


async def advance_one(
    tx: Tx, step: Step, effects: Effects, keep: Callable[[Tx, Advanced], Awaitable[None]]
) -> tuple[Advanced, list[tuple[int, bytes]]]:
    """`advance` by one step of a person, with all writes in one statement.

    `keep` adds what is to be written with the result. Returns the result, without entries, and the cancellations of its incidents
    that notify has not confirmed, as the ids and payloads of their outbox rows. Raises the step's error.
    """
    known, [passed_on], of_merged = await _locked(tx, [step])
    work = _Work(dict(known.runs), await tx.now(), dict(known.people), tx.org_id, known.feed_tenants)
    answer = work.take_answer(passed_on)
    if isinstance(answer, TocsinError):
        raise answer
    for each in of_merged:
        work.take(each)
    round_trip = OneRoundTrip(tx)
    await keep(round_trip, answer)
    moved = await work.gather(round_trip)
    rows, paged = work.outbox_rows(SURE_WAY_SECONDS)
    await timeline.write(round_trip, work.notes)
    keys = {str(step.incident_id), str(answer.run.incident_id)}
    stops = await outbox.write_and_find(round_trip, rows, jobs.CANCEL, sorted(keys))
    work.hand_over_after_commit(tx, effects, moved, paged, confirms=True)
    return answer, stops


class _Work:
    """The decisions of one transaction, gathered so that they are written as sets."""

    def __init__(
        self,
        runs: dict[UUID, Escalation],
        now: datetime,
        people: dict[str, Directory],
        org_id: str,
        feed_tenants: Collection[str] | None,
    ) -> None:
        self.org_id = org_id
        self.feed_tenants = feed_tenants
        self.runs = runs
        self.now = now
        self.people = people
        self.changed: dict[UUID, Escalation] = {}
        self.versioned: set[UUID] = set()
        self.before = dict(runs)
        self.rearm: dict[UUID, Escalation] = {}
        self.notes: list[tuple[Escalation, Note]] = []
        self.pages: list[tuple[Escalation, Page]] = []
        self.stops: list[tuple[Escalation, StopPages]] = []
        self.turned: set[tuple[str, str]] = set()
        self.entries: dict[UUID, list[Entry]] = {}
        self.events: list[feeds.Told] = []
        self.follower_messages: list[followers.Row] = []

    def take_answer(self, step: Step) -> Advanced | TocsinError:
        """`take`. An answer that is passed on to another incident is also in the timeline of the incident it was for."""
        answer = self.take(step)
        event = step.event
        if isinstance(answer, TocsinError) or answer.already or not isinstance(event, merging.PassedOn):
            return answer
        if event.source is not None:
            self.take(Step(event.source, merging.passed_on(step.incident_id, event), org_id=step.org_id))
        return answer

    def take(self, step: Step) -> Advanced | TocsinError:
        run = self.runs.get(step.incident_id)
        if run is None or not self._may_touch(run, step):
            return not_found(reasons.ERROR_REASON_INCIDENT_NOT_FOUND, f"incidents/{step.incident_id}")
        try:
            require_etag(step.etag, run.version)
        except TocsinError as error:
            return error
        people = self.people.get(run.org_id, _NOBODY)
        decision = decide(run, step.event, self.now, people, new_id())
        if decision.refusal is not None:
            if step.sequence > run.last_sequence:
                # It was told: the next event of the incident must not look as if this one had been lost.
                self._keep(run, Decision(run), step.sequence)
            return refused(run, decision.refusal)
        self._keep(run, decision, step.sequence)
        return Advanced(self.runs[run.incident_id], self.now, decision.already, before=run)

    def _may_touch(self, run: Escalation, step: Step) -> bool:
        """The second tenant check beside the statements': no decision is made about a run that was read by mistake."""
        return self.org_id in (SYSTEM, run.org_id) and step.org_id in ("", run.org_id)

    def _keep(self, run: Escalation, decision: Decision, sequence: int) -> None:
        following = decision.next
        if run.version == 0:
            # On the path of every page: a new row needs no comparison.
            self.versioned.add(run.incident_id)
            following = changed(following, last_sequence=max(sequence, following.last_sequence), version=1)
        elif sequence > following.last_sequence:
            following = replace(following, last_sequence=sequence)
        if following is not run and (run.version == 0 or following != run):
            # The version grows by one per transaction, however many steps it takes. The outcome of a page is no reason to refuse
            # a person who acts on what they read a second ago. Neither is another check of the schedules of a level that waits in
            # a gap.
            timer = following.timer if _still_held(run, following) else run.timer
            if run.incident_id not in self.versioned and following != replace(
                run, pages=following.pages, reached=following.reached, timer=timer
            ):
                self.versioned.add(run.incident_id)
                following = replace(following, version=run.version + 1)
            self.changed[run.incident_id] = following
            self.runs[run.incident_id] = following
        elif run.timer is not None:
            self.rearm[run.incident_id] = run
        for note in decision.notes:
            if note.kind is NoteKind.STALE:
                _log.info("stale_timer_ignored", incident=str(run.incident_id), timer=note.actor, reason=note.message)
            else:
                self.notes.append((following, note))
        for command in decision.commands:
            if isinstance(command, Page):
                self.pages.append((following, command))
            elif isinstance(command, StopPages):
                self.stops.append((following, command))
            else:
                self._turn(following.org_id, command)

    def _turn(self, org_id: str, turn: TurnTaken) -> None:
        """Later steps see it, so each of two incidents of one batch pages another person."""
        directory = self.people[org_id]
        self.people[org_id] = replace(directory, turns=taken(directory.turns or {}, [turn]))
        self.turned.add((org_id, turn.policy))

    async def write(self, tx: Tx, effects: Effects, time_slice: TimeSlice, *, entries: bool, confirms: bool) -> None:
        new = [run for run in self.changed.values() if self._is_new(run)]
        # One round trip for all of these: no row is written by two of them, and none is read.
        round_trip = OneRoundTrip(tx)
        moved = await self.gather(round_trip)
        await time_slice.yield_if_over()
        rows, paged = self.outbox_rows(SURE_WAY_SECONDS if confirms else 0.0)
        await time_slice.yield_if_over()
        await outbox.write_mixed(round_trip, rows)
        if not entries:
            await timeline.write(round_trip, self.notes)
        await time_slice.yield_if_over()
        if new and len(await escalations.insert(round_trip, new)) < len(new):
            raise Overtaken
        if entries:
            for (run, _), entry in zip(self.notes, await timeline.append(round_trip, self.notes), strict=True):
                self.entries.setdefault(run.incident_id, []).append(entry)
        await round_trip.send()
        self.hand_over_after_commit(tx, effects, moved, paged, confirms=confirms)

    async def gather(self, round_trip: OneRoundTrip) -> list[Escalation]:
        """What changes rows that were read, and the events that are told. Returns the incidents whose timers move."""
        saved = [run for run in self.changed.values() if not self._is_new(run)]
        moved = [run for run in self.changed.values() if self._moves_timer(run)]
        retitled = {run.incident_id for run in saved if self._retitled(run)}
        await escalations.save(
            round_trip, [run for run in saved if run.incident_id in self.versioned], retitled=retitled
        )
        await pages.save(round_trip, [run for run in saved if run.incident_id not in self.versioned])
        await timers.replace(round_trip, moved)
        await turns.save(round_trip, {(org, id): (self.people[org].turns or {})[id] for org, id in sorted(self.turned)})
        self.events = list(self._events())
        await feeds.tell(round_trip, self.events)
        return moved

    def outbox_rows(self, stop_delay: float) -> tuple[list[tuple[str, str, str, bytes, float]], list[NotificationJob]]:
        """The outbox rows of what was decided, and the pages among them. `stop_delay`: seconds until cancellations are due;
        those of single users are due at once."""
        rows = [
            (
                jobs.CANCEL,
                run.org_id,
                str(run.incident_id),
                jobs.cancellation(run, stop).SerializeToString(),
                0.0 if stop.user else stop_delay,
            )
            for run, stop in self.stops
        ]
        paged = [
            jobs.notification_job(run, page, self.people.get(run.org_id, _NOBODY).zones.get(page.user, ""))
            for run, page in self.pages
        ]
        self.follower_messages = followers.messages(self.notes, self.now)
        rows += self.follower_messages
        rows += [(jobs.PAGE, job.org_id, "", job.SerializeToString(), SURE_WAY_SECONDS) for job in paged]
        return rows, paged

    def hand_over_after_commit(
        self, tx: Tx, effects: Effects, moved: Sequence[Escalation], paged: list[NotificationJob], *, confirms: bool
    ) -> None:
        """Pages, timers, the journal and the streams get what was decided once it is committed."""
        touched = [*moved, *(run for id, run in self.rearm.items() if id not in self.changed)]
        nudged = any(stop.user or not confirms for _, stop in self.stops)
        tx.after_commit(lambda: self._hand_over(effects, touched, paged, cancelled=nudged))

    def _is_new(self, run: Escalation) -> bool:
        """It has no row yet: in `DecisionData` it has version 0."""
        return self.before[run.incident_id].version == 0

    def _events(self) -> Iterable[feeds.Told]:
        time = Timestamp()
        time.FromDatetime(self.now)
        for run, note in self.notes:
            if self.feed_tenants is not None and run.org_id not in self.feed_tenants:
                continue
            payload = incident_events.event_of(run, note, self.before[run.incident_id], time)
            if payload is not None:
                yield incident_events.EVENT, run.org_id, incident_events.ordering_key(run), payload

    def _retitled(self, run: Escalation) -> bool:
        return run.facts.title != self.before[run.incident_id].facts.title

    def _moves_timer(self, run: Escalation) -> bool:
        before = self.before[run.incident_id]
        return run.timer is None or (run.timer, run.facts.urgent) != (before.timer, before.facts.urgent)

    def _hand_over(
        self, effects: Effects, touched: list[Escalation], paged: list[NotificationJob], *, cancelled: bool
    ) -> None:
        effects.after(touched, self.now, paged, cancelled=cancelled)
        effects.note(journal_notes.added(touched, self.now))
        for type_, count in Counter(page.type.value for _, page in self.pages).items():
            effects.metrics.pages.labels(type_).inc(count)
        publish_notes.publish(effects, self.notes)
        if self.events:
            effects.events.nudge_soon()
        if self.follower_messages:
            effects.follower_messages.nudge_soon()


def _still_held(run: Escalation, following: Escalation) -> bool:
    return all(each.timer is not None and each.timer.kind is TimerKind.GAP_HOLD for each in (run, following))
