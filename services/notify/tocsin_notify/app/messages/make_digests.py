"""Makes digests that are due.

The rows are the record. A replica leases due digests and asks escalation for the figures outside of any transaction. It
makes the pages in the transaction that moves each digest to its next time, under ids that are computed from the user
and the time. So each is made once, even if a process is killed or two processes do the same: at worst escalation is
asked twice. A row whose lease ends is due again.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final
from uuid import UUID

from tocsin.escalation.v1.internal_service_pb2 import SummarizeForDigestsResponse
from tocsin.notify.v1 import digest_pb2
from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import SEVERITY_INFO
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger
from tocsin_kit.tasks.journal import NO_NOTES, Notes, note_all
from tocsin_kit.time_slices import TimeSlice

from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.journal_notes import added
from tocsin_notify.app.messages.digests import figures_of
from tocsin_notify.channels.digests import content_of
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain.digest import Rhythm, WhenEmpty, page_id, why_not_now
from tocsin_notify.domain.digest_content import subject
from tocsin_notify.domain.fairness import alternating
from tocsin_notify.domain.page import DIGESTS, NORMAL, RINGING, Kind, Method, Page, State, Urgency
from tocsin_notify.domain.planning import plan
from tocsin_notify.domain.reach import why_unreachable
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.domain.wall_time import BadTime
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import notifications
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.messages import digests
from tocsin_notify.store.messages.digests import Digest, Made
from tocsin_notify.store.pages import pages, people
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.store.pages.people import Person
from tocsin_notify.texts.digest_words import digest_words_of

_log = get_logger(__name__)

BEHIND: Final = 60.0
"""Seconds from the time of a digest until it is made: escalation counts events some seconds after they happened."""
USERS_AT_ONCE: Final = 100
"""Of one question."""
_MOST_PER_ROUND: Final = 500
_MOST_LOOKED_AT: Final = 20_000
_QUESTIONS_AT_ONCE: Final = 4
_LEASE: Final = 90.0
"""Longer than the call to escalation takes."""
_RINGS: Final = "no contact method for digests: each of those that are verified and enabled rings"


@dataclass(frozen=True, slots=True)
class _Times:
    """The latest time at which a digest was due, the start of the time that it covers, and its next time."""

    start: datetime
    planned: datetime
    following: datetime
    left_out: str


@dataclass(frozen=True, slots=True)
class _Due:
    """A leased digest with its times."""

    digest: Digest
    times: _Times

    @property
    def group(self) -> tuple[str, bool, datetime, datetime]:
        """Digests of one group need one call to escalation: they have the same tenant and cover the same time."""
        return self.digest.org_id, bool(self.times.left_out), self.times.start, self.times.planned


@dataclass(frozen=True, slots=True)
class _Draft:
    """The text of a digest, if it has content and a contact method to go to; else the reason why it is not sent."""

    job: pb.NotificationJob | None
    result: str


class MakeDigests:
    """One object per process; every replica may run it."""

    def __init__(
        self,
        db: Database,
        escalation: Escalation,
        hints: Hints,
        metrics: NotifyMetrics,
        *,
        latest: timedelta,
        notes: Notes = NO_NOTES,
    ) -> None:
        """`latest`: how late a digest may still be sent."""
        self._db = db
        self._escalation = escalation
        self._hints = hints
        self._metrics = metrics
        self._latest = latest
        self._notes = notes
        self._room = asyncio.Semaphore(_QUESTIONS_AT_ONCE)

    async def everything(self) -> None:
        """Rounds until no more is due. Raises DATABASE_UNAVAILABLE: due digests stay due."""
        while await self._round() == _MOST_PER_ROUND:
            pass

    async def _round(self) -> int:
        time_slice = TimeSlice()
        async with self._db.claim() as tx:
            claimed = await digests.claim(
                tx,
                behind=BEHIND,
                limit=_MOST_PER_ROUND,
                at_once=USERS_AT_ONCE,
                look=_MOST_LOOKED_AT,
                lease=_LEASE,
            )
            now = await tx.now()
        times: dict[tuple[Rhythm, datetime], _Times] = {}  # most have the same
        for each in claimed:
            key = each.rhythm, each.next_time
            if key not in times:
                times[key] = self._times(*key, now)
                await time_slice.yield_if_over()
        due = sorted((_Due(each, times[each.rhythm, each.next_time]) for each in claimed), key=lambda each: each.group)
        groups = [list(group) for _, group in groupby(due, key=lambda each: each.group)]
        parts = [group[at : at + USERS_AT_ONCE] for group in groups for at in range(0, len(group), USERS_AT_ONCE)]
        await asyncio.gather(*map(self._make, alternating(parts, lambda each: each[0].digest.org_id)))
        return len(claimed)

    def _times(self, rhythm: Rhythm, next_time: datetime, now: datetime) -> _Times:
        try:
            planned, following = rhythm.latest_until(next_time, now)
            left_out = why_not_now(planned, now, self._latest, rhythm.time_zone)
            return _Times(rhythm.start_of(planned), planned, following, left_out)
        except BadTime as error:
            return _Times(next_time, next_time, now + timedelta(days=1), f"left out: {error.field} {error}")

    async def _make(self, due: Sequence[_Due]) -> None:
        """Those of one group. A digest that fails is due again when its lease ends, and holds up no other group."""
        org_id, times = due[0].digest.org_id, due[0].times
        async with self._room:
            try:
                if times.left_out:
                    drafts = [_Draft(None, each.times.left_out) for each in due]
                else:
                    users = sorted({each.digest.user_id for each in due})
                    asked = await self._escalation.summarize(org_id, users, times.start, times.planned)
                    drafts = await _drafts(due, asked)
                await self._db.run(org_id, lambda tx: self._write(tx, due, drafts))
            except TocsinError as error:
                _log.warning("digests_wait", org_id=org_id, digests=len(due), reason=error.reason_name)
            except Exception:
                _log.exception("digests_failed", org_id=org_id, digests=len(due))

    async def _write(self, tx: Tx, due: Sequence[_Due], drafts: Sequence[_Draft]) -> None:
        """Make the pages of those that are still due and whose lease is unchanged."""
        drafted = {
            (each.digest.user_id, each.digest.frequency): (each.times, draft)
            for each, draft in zip(due, drafts, strict=True)
        }
        held = await digests.hold(tx, [each.digest for each in due])
        known = await people.read(tx, {(tx.org_id, each.user_id) for each in held})
        made: list[Made] = []
        new: dict[UUID, tuple[NewPage, Method]] = {}
        for digest in held:
            times, draft = drafted[digest.user_id, digest.frequency]
            person, page, result = known[tx.org_id, digest.user_id], None, draft.result
            if draft.job is not None:
                method = _method(digest, person)
                if method is None:
                    result = f"left out: {why_unreachable(person.methods) or _RINGS}"
                else:
                    page = page_id(digest.org_id, digest.user_id, digest.frequency, times.planned)
                    new[page] = (_new_page(page, draft.job, times.planned, self._latest), method)
            made.append(Made(digest, times.planned, times.following, result, page))
        stored = await pages.insert(tx, [page for page, _ in new.values()])
        rows = [_notification(*new[id]) for id in stored.fences]
        await notifications.insert(tx, rows)
        await digests.settle(tx, made)
        now = await tx.now()
        tx.after_commit(lambda: self._tell(tx.org_id, made, rows, now))

    def _tell(self, org_id: str, made: Sequence[Made], notifications: Sequence[NewNotification], now: datetime) -> None:
        self._hints.now([row.id for row in notifications])
        note_all(self._notes, (added(row, now) for row in notifications))
        for each in made:
            self._metrics.digests.labels(_outcome(each)).inc()
        _log.info("digests", org_id=org_id, due=len(made), made=len(notifications))


async def _drafts(due: Sequence[_Due], asked: SummarizeForDigestsResponse) -> list[_Draft]:
    """The text of each of these."""
    people, time_slice, drafts = {each.user: each for each in asked.people}, TimeSlice(), []
    for each in due:
        drafts.append(_draft(each, asked.figures, people.get(each.digest.user_id)))
        await time_slice.yield_if_over()
    return drafts


def _draft(due: _Due, common: digest_pb2.DigestFigures, person: digest_pb2.DigestPerson | None) -> _Draft:
    digest, planned = due.digest, due.times.planned
    if person is None:
        return _Draft(None, "left out: the user is disabled or does not exist")
    figures = figures_of(digest.rhythm, due.times.start, planned, common, person)
    content = content_of(figures)
    if not content.worth_telling and digest.when_empty is WhenEmpty.NOTHING:
        return _Draft(None, "nothing to tell, so nothing was sent")
    job = pb.NotificationJob(
        page=f"pages/{page_id(digest.org_id, digest.user_id, digest.frequency, planned)}",
        org_id=digest.org_id,
        type=pb.NOTIFICATION_TYPE_DIGEST,
        user=digest.user_id,
        severity=SEVERITY_INFO,
        title=subject(content, digest_words_of(LANGUAGES[0])),
        digest=figures,
    )
    job.planned_time.FromDatetime(planned)
    return _Draft(job, "made")


def _new_page(id: UUID, job: pb.NotificationJob, planned: datetime, latest: timedelta) -> NewPage:
    page = Page(Kind.DIGEST, Urgency.LOW)
    return NewPage(id, job.org_id, job.user, None, page, NORMAL, 0, planned, job, planned + latest)


def _method(digest: Digest, person: Person) -> Method | None:
    """The chosen method if it is usable; else the first usable one."""
    chosen = next((method for method in person.methods if method.id == digest.contact_method), None)
    if chosen is not None and chosen.usable and chosen.channel not in RINGING:
        return chosen
    planned = plan(Page(Kind.DIGEST, Urgency.LOW), person.methods, person.rules)
    return planned[0].method if planned else None


def _notification(page: NewPage, method: Method) -> NewNotification:
    return NewNotification(
        id=new_id(),
        org_id=page.org_id,
        page_id=page.id,
        user_id=page.user_id,
        incident=None,
        generation=page.generation,
        priority=DIGESTS,
        contact_method=method.id,
        channel=method.channel,
        step=0,
        state=State.PENDING,
        reason="",
        delay=0.0,
        outlasts=False,
    )


def _outcome(made: Made) -> str:
    if made.page is not None:
        return "made"
    return "left_out" if made.result.startswith("left out") else "empty"
