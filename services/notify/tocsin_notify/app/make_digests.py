"""Makes digests that are due.

The rows are the record. A replica leases what is due, asks escalation for the figures outside of any transaction, and makes the
pages in the transaction that moves each digest to its next time, under ids that are computed from the user and the time. So each is
made once, whatever is killed or runs twice: at worst escalation is asked twice. A row whose lease ends is due again.
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

from tocsin_notify.app.digests import figures_of
from tocsin_notify.app.hints import Hints
from tocsin_notify.channels.digests import content_of
from tocsin_notify.clients.escalation import Escalation
from tocsin_notify.domain.digest import Frequency, WhenEmpty, page_id, why_not_now
from tocsin_notify.domain.digest_content import subject
from tocsin_notify.domain.page import DIGESTS, NORMAL, RINGING, Kind, Method, Page, State, Urgency
from tocsin_notify.domain.planning import plan
from tocsin_notify.domain.reach import why_unreachable
from tocsin_notify.domain.wall_time import BadTime
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store import digests, notifications, pages, people
from tocsin_notify.store.digests import Digest, Made
from tocsin_notify.store.notifications import NewNotification
from tocsin_notify.store.pages import NewPage
from tocsin_notify.store.people import Person

_log = get_logger(__name__)

BEHIND: Final = 60.0
"""Seconds from the time of a digest to its making: escalation counts what happened some seconds later."""
USERS_AT_ONCE: Final = 100
"""Of one question."""
_MOST_PER_ROUND: Final = 500
_MOST_LOOKED_AT: Final = 20_000
_QUESTIONS_AT_ONCE: Final = 4
_LEASE: Final = 90.0
"""Longer than a question and its answer take."""
_RINGS: Final = "no contact method for digests: each of those that are verified and enabled rings"


@dataclass(frozen=True, slots=True)
class _Due:
    """A leased digest with the latest time at which it was due, and the next one."""

    digest: Digest
    planned: datetime
    following: datetime
    left_out: str

    @property
    def group(self) -> tuple[str, bool, Frequency, datetime, datetime]:
        """Those of a group are made by one question: the same tenant, and the same time to tell of."""
        return self.digest.org_id, bool(self.left_out), self.digest.frequency, self.planned, self.following


class MakeDigests:
    """One object per process; every replica may run it."""

    def __init__(
        self, db: Database, escalation: Escalation, hints: Hints, metrics: NotifyMetrics, *, latest: timedelta
    ) -> None:
        """`latest`: how late one is still sent."""
        self._db = db
        self._escalation = escalation
        self._hints = hints
        self._metrics = metrics
        self._latest = latest
        self._room = asyncio.Semaphore(_QUESTIONS_AT_ONCE)

    async def everything(self) -> None:
        """Rounds until nothing more is due. Raises DATABASE_UNAVAILABLE: what was due still is."""
        while await self._round() == _MOST_PER_ROUND:
            pass

    async def _round(self) -> int:
        async with self._db.system() as tx:
            claimed = await digests.claim(
                tx,
                behind=BEHIND,
                limit=_MOST_PER_ROUND,
                at_once=USERS_AT_ONCE,
                look=_MOST_LOOKED_AT,
                lease=_LEASE,
            )
            now = await tx.now()
        due = sorted((self._due(each, now) for each in claimed), key=lambda each: each.group)
        groups = [list(group) for _, group in groupby(due, key=lambda each: each.group)]
        parts = [group[at : at + USERS_AT_ONCE] for group in groups for at in range(0, len(group), USERS_AT_ONCE)]
        await asyncio.gather(*map(self._make, parts))
        return len(claimed)

    def _due(self, digest: Digest, now: datetime) -> _Due:
        try:
            planned, following = digest.rhythm.latest_until(digest.next_time, now)
            left_out = why_not_now(planned, now, self._latest, digest.time_zone)
        except BadTime as error:
            return _Due(digest, digest.next_time, now + timedelta(days=1), f"left out: {error.field} {error}")
        return _Due(digest, planned, following, left_out)

    async def _make(self, due: Sequence[_Due]) -> None:
        """Those of one group. What fails is due again when its lease ends, and holds up no other group."""
        org_id = due[0].digest.org_id
        async with self._room:
            try:
                asked = None if due[0].left_out else await self._ask(due)
                await self._db.run(org_id, lambda tx: self._write(tx, due, asked))
            except TocsinError as error:
                _log.warning("digests_wait", org_id=org_id, digests=len(due), reason=error.reason_name)
            except Exception:
                _log.exception("digests_failed", org_id=org_id, digests=len(due))

    async def _ask(self, due: Sequence[_Due]) -> SummarizeForDigestsResponse:
        first = due[0]
        start = first.digest.rhythm.start_of(first.planned)
        users = sorted({each.digest.user_id for each in due})
        return await self._escalation.summarize(first.digest.org_id, users, start, first.planned)

    async def _write(self, tx: Tx, due: Sequence[_Due], asked: SummarizeForDigestsResponse | None) -> None:
        """Make the pages of those that are still due as they were leased."""
        times = {(each.digest.user_id, each.digest.frequency): each for each in due}
        held = await digests.hold(tx, [each.digest for each in due])
        known = await people.read(tx, {(tx.org_id, each.user_id) for each in held})
        figures = {each.user: each for each in asked.people} if asked is not None else {}
        made: list[Made] = []
        new: dict[UUID, tuple[NewPage, Method]] = {}
        for digest in held:
            time = times[digest.user_id, digest.frequency]
            page, result = None, time.left_out
            if asked is not None:
                person = known[tx.org_id, digest.user_id]
                page, result = self._page(digest, time.planned, asked.figures, figures.get(digest.user_id), person, new)
            made.append(Made(digest, time.planned, time.following, result, page))
        stored = await pages.insert(tx, [page for page, _ in new.values()])
        rows = [_notification(*new[id]) for id in stored.fences]
        await notifications.insert(tx, rows)
        await digests.settle(tx, made)
        tx.after_commit(lambda: self._tell(tx.org_id, made, [row.id for row in rows]))

    def _page(
        self,
        digest: Digest,
        planned: datetime,
        common: digest_pb2.DigestFigures,
        own: digest_pb2.DigestPerson | None,
        person: Person,
        new: dict[UUID, tuple[NewPage, Method]],
    ) -> tuple[UUID | None, str]:
        """The page of a digest, which is added to `new`, and what became of the digest."""
        if own is None:
            return None, "left out: the user is disabled or does not exist"
        figures = figures_of(digest.rhythm, planned, common, own)
        content = content_of(figures)
        if not content.worth_telling and digest.when_empty is WhenEmpty.NOTHING:
            return None, "nothing to tell, so nothing was sent"
        method = _method(digest, person)
        if method is None:
            return None, f"left out: {why_unreachable(person.methods) or _RINGS}"
        id = page_id(digest.org_id, digest.user_id, digest.frequency, planned)
        job = pb.NotificationJob(
            page=f"pages/{id}",
            org_id=digest.org_id,
            type=pb.NOTIFICATION_TYPE_DIGEST,
            user=digest.user_id,
            severity=SEVERITY_INFO,
            title=subject(content),
            digest=figures,
        )
        job.planned_time.FromDatetime(planned)
        new[id] = (_new_page(id, digest, planned, job, self._latest), method)
        return id, "made"

    def _tell(self, org_id: str, made: Sequence[Made], notifications: Sequence[UUID]) -> None:
        self._hints.now(notifications)
        for each in made:
            self._metrics.digests.labels(_outcome(each)).inc()
        _log.info("digests", org_id=org_id, due=len(made), made=len(notifications))


def _new_page(id: UUID, digest: Digest, planned: datetime, job: pb.NotificationJob, latest: timedelta) -> NewPage:
    page = Page(Kind.DIGEST, Urgency.LOW)
    return NewPage(id, digest.org_id, digest.user_id, None, page, NORMAL, 0, planned, job, planned + latest)


def _method(digest: Digest, person: Person) -> Method | None:
    """The chosen one if it can be used; else the first that fits."""
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
