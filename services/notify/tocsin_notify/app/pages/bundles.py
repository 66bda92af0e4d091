"""Due bundles become pages: one message for all pages in it, sent by the person's rules like any other."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin.escalation.v1.internal_service_pb2 import PageOutcome
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import wait_or_stop
from tocsin_kit.tasks.journal import NO_NOTES, Noted, Notes, note_all
from tocsin_kit.time_slices import TimeSlice

from tocsin_notify.app.delivery import page_outcomes
from tocsin_notify.app.delivery.failures import Failures
from tocsin_notify.app.delivery.hints import Hint, Hints
from tocsin_notify.app.delivery.journal_notes import added
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.app.pages.bundle_message import GENERATION, page_of, readable_of
from tocsin_notify.app.pages.stored_jobs import job_of_member
from tocsin_notify.domain.bundling import TOGETHER, BundlePolicy
from tocsin_notify.domain.page import Kind, Page, State, Urgency
from tocsin_notify.domain.planning import after_quiet_hours, plan
from tocsin_notify.domain.reach import why_unreachable
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.pages import bundles, pages, people, quiet_bundles
from tocsin_notify.store.pages.bundles import Alone, BundledPage, Due
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.store.pages.people import Person
from tocsin_notify.texts.catalogue import words_of

_log = get_logger(__name__)

_MOST: Final = 10
"""The most bundles in one transaction: with `MOST_PAGES` this limits the rows that it reads."""
_PAGES_AT_ONCE: Final = 100
"""Pages after which a transaction stops: the bundles of a storm are due together, and pages of other people arrive
meanwhile."""
_REST: Final = 0.05
"""Pause after so many pages, in seconds: sending one message and reporting all its pages to escalation costs more than
making it."""
MOST_PAGES: Final = 500
"""Pages of one message. Further pages go into further messages, so that a long storm is never in memory as a whole."""
_ALONE: Final = "sent by itself: it cannot be shown together with the other pages"
_WAITED: Final = "it has waited for the end of quiet hours"


class Bundles:
    """Makes the pages of bundles that are due.

    Any number of replicas may run it: a bundle is claimed in the transaction that makes its page.
    """

    def __init__(
        self,
        db: Database,
        hints: Hints,
        metrics: NotifyMetrics,
        failures: Failures,
        bundling: BundlePolicy,
        first: PeopleFirst,
        stop: asyncio.Event,
        notes: Notes = NO_NOTES,
    ) -> None:
        """`bundling`: for people who have no budget of their own. `first`: pages to which bundles give way. `stop`:
        ends the pauses."""
        self._first = first
        self._stop = stop
        self._bundling = bundling
        self._notes = notes
        self._db = db
        self._hints = hints
        self._metrics = metrics
        self._failures = failures

    async def __call__(self) -> None:
        """Send every bundle that is due. Raises DATABASE_UNAVAILABLE: due bundles stay due."""
        most = 1
        while True:
            await self._first.give_way()
            async with self._db.claim() as tx:
                due = [*await bundles.claim(tx, most), *await _ended(tx, most)]
                parted = await _part(tx, due) if due else {}
                sent = [replace(each, bundle=parted.get(each.bundle, each.bundle)) for each in due]
                made = await self._make(tx, sent) if due else _Made()
            self._hints.now([row.id for row in made.rows])
            note_all(self._notes, made.notes)
            self._hints.now([id for id, delay, _ in made.released if delay <= 0])
            self._hints.arm([Hint(id, delay, priority) for id, delay, priority in made.released if delay > 0])
            if made.unreachable:
                self._failures.nudge()
            if not due:
                return
            most = _following(most, made.read)
            if made.read > _PAGES_AT_ONCE and await wait_or_stop(self._stop, _REST):
                return

    async def _make(self, tx: Tx, due: Sequence[Due]) -> "_Made":
        held = await bundles.members(tx, [(each.org_id, each.bundle) for each in due])
        known = await people.read(tx, {(each.org_id, each.user_id) for each in due})
        now = await tx.now()
        made, time_slice = _Made(read=sum(map(len, held.values()))), TimeSlice()
        for bundle in due:
            true = [each for each in held[bundle.bundle] if each.stopped is None]
            if not true:
                continue  # all its pages were answered meanwhile
            person = known[bundle.org_id, bundle.user_id]
            if bundle.waited and (len(true) == 1 or person.settings.bundling(self._bundling).pages <= 0):
                made.alone += [_alone(bundle.org_id, each, person, _WAITED) for each in true]
                continue
            listed, odd = await readable_of(bundle.org_id, true, time_slice)
            made.alone += [_alone(bundle.org_id, each, person, _ALONE) for each in odd]
            if listed:
                made.pages.append(page_of(bundle, listed, words_of(person.settings.language or LANGUAGES[0])))
                self._plan(made, made.pages[-1], person, [each.page for each in listed], now)
        if made.pages:
            await pages.insert(tx, made.pages)
        if made.rows:
            await notifications.insert(tx, made.rows)
            made.notes = [added(row, now) for row in made.rows]
        if made.alone:
            made.released = await bundles.release(tx, made.alone)
        await page_outcomes.append(tx, made.unreachable)
        return made

    def _plan(
        self, made: "_Made", page: NewPage, person: Person, members: Sequence[BundledPage], now: datetime
    ) -> None:
        planned = after_quiet_hours(page.page, plan(page.page, person.methods, person.rules), person.settings, now)
        made.rows += [
            NewNotification(
                id=new_id(),
                org_id=page.org_id,
                page_id=page.id,
                user_id=page.user_id,
                incident=page.id,
                generation=GENERATION,
                priority=page.priority,
                contact_method=step.method.id,
                channel=step.method.channel,
                step=step.step,
                state=State.PENDING,
                reason=step.reason,
                delay=step.delay,
                outlasts=False,
            )
            for step in planned
        ]
        fields = {"org_id": page.org_id, "user": page.user_id, "page": f"pages/{page.id}"}
        if not planned:
            why = why_unreachable(person.methods)
            made.unreachable += [page_outcomes.unreachable(job_of_member(page.org_id, each), why) for each in members]
            _log.error("nobody_to_notify", detail=why, **fields)
        _log.warning("pages_bundled", pages=len(members), **fields)
        self._metrics.bundles.inc()


def _following(most: int, read: int) -> int:
    """How many bundles the next transaction takes: more while bundles are small."""
    return max(1, most // 2) if read > _PAGES_AT_ONCE else min(_MOST, 2 * most)


async def _ended(tx: Tx, most: int) -> list[Due]:
    """Bundles whose person's quiet hours are over. If quiet hours were changed meanwhile, the present ones count.

    Bundles of a person who can no longer be reached end as well: escalation must be told.
    """
    due = await quiet_bundles.due(tx, most)
    if not due:
        return []
    known, now = await people.read(tx, {(each.org_id, each.user_id) for each in due}), await tx.now()
    until = {each: _quiet_until(known[each.org_id, each.user_id], now) for each in due}
    later = {(each.org_id, each.user_id): end for each, end in until.items() if end is not None}
    if later:
        await quiet_bundles.put_off(tx, later)
    return [each for each in due if until[each] is None]


def _quiet_until(person: Person, now: datetime) -> datetime | None:
    return person.settings.quiet_until(now) if any(method.usable for method in person.methods) else None


async def _part(tx: Tx, due: Sequence[Due]) -> dict[UUID, UUID]:
    """The new id of the first pages of each bundle that holds too many for one message. The others are closed."""
    parted = await bundles.part(tx, due, [new_id() for _ in due], MOST_PAGES, TOGETHER)
    whole = [(each.org_id, each.user_id) for each in due if each.waited and each.bundle not in parted]
    if whole:
        await quiet_bundles.close(tx, whole)
    return parted


@dataclass(slots=True)
class _Made:
    """The rows that one transaction makes. `released`: id, delay and priority of the notifications of pages that are
    sent alone. `read`: pages."""

    read: int = 0
    pages: list[NewPage] = field(default_factory=list)
    rows: list[NewNotification] = field(default_factory=list)
    unreachable: list[PageOutcome] = field(default_factory=list)
    alone: list[Alone] = field(default_factory=list)
    released: list[tuple[UUID, float, int]] = field(default_factory=list)
    notes: list[Noted] = field(default_factory=list)


def _alone(org_id: str, member: BundledPage, person: Person, reason: str) -> Alone:
    page = Page(Kind(member.type), Urgency(member.urgency))
    steps = plan(page, person.methods, person.rules)
    return Alone(org_id, member.id, reason, [(step.method.id, step.step, step.delay) for step in steps])
