"""Bundles that are due become pages: one message for all the pages in it, sent by the person's rules like any other."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from tocsin.notify.v1 import notification_pb2 as pb
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger

from tocsin_notify.app import page_outcomes
from tocsin_notify.app.failures import Failures
from tocsin_notify.app.hints import Hints
from tocsin_notify.channels.text import severity_word
from tocsin_notify.domain.bundling import Member, summary
from tocsin_notify.domain.page import Kind, Page, State, Urgency, priority_of
from tocsin_notify.domain.planning import plan
from tocsin_notify.domain.reach import why_unreachable
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store import bundles, notifications, pages, people
from tocsin_notify.store.bundles import BundledPage
from tocsin_notify.store.notifications import NewNotification
from tocsin_notify.store.pages import NewPage

_log = get_logger(__name__)

GENERATION: Final = 1
"""Of the page of a bundle, whose incident is the bundle itself: a fence of this generation stops it like any other page."""
_MOST: Final = 50
_LISTED: Final = 20
_TITLE: Final = 120


class Bundles:
    """One round of it. Any number of replicas may run it: a bundle is claimed in the transaction that makes its page."""

    def __init__(self, db: Database, hints: Hints, metrics: NotifyMetrics, failures: Failures) -> None:
        self._db = db
        self._hints = hints
        self._metrics = metrics
        self._failures = failures

    async def __call__(self) -> None:
        """Send every bundle that is due. Raises DATABASE_UNAVAILABLE: what was due still is."""
        while True:
            async with self._db.system() as tx:
                due = await bundles.claim(tx, _MOST)
                made, told = await self._send(tx, due) if due else ([], False)
            self._hints.now([row.id for row in made])
            if told:
                self._failures.nudge()
            if len(due) < _MOST:
                return

    async def _send(self, tx: Tx, due: Sequence[tuple[str, str, UUID]]) -> tuple[list[NewNotification], bool]:
        held = await bundles.members(tx, [(org_id, id) for org_id, _, id in due])
        known = await people.read(tx, {(org_id, user) for org_id, user, _ in due})
        made: list[NewPage] = []
        rows: list[NewNotification] = []
        unreachable = []
        for org_id, user, id in due:
            true = [each for each in held[id] if each.stopped is None]
            if not true:
                continue  # all of it was answered meanwhile
            person = known[org_id, user]
            page = page_of(org_id, user, id, true)
            planned = plan(page.page, person.methods, person.rules)
            made.append(page)
            rows += [
                NewNotification(
                    id=new_id(),
                    org_id=org_id,
                    page_id=id,
                    user_id=user,
                    incident=id,
                    generation=GENERATION,
                    priority=page.priority,
                    contact_method=step.method.id,
                    channel=step.method.channel,
                    step=step.step,
                    state=State.PENDING,
                    reason="",
                    delay=step.delay,
                    outlasts=False,
                )
                for step in planned
            ]
            if not planned:
                why = why_unreachable(person.methods)
                unreachable += [
                    page_outcomes.unreachable(pb.NotificationJob.FromString(each.job), why) for each in true
                ]
                _log.error("nobody_to_notify", org_id=org_id, page=f"pages/{id}", user=user, detail=why)
            _log.warning("pages_bundled", org_id=org_id, user=user, page=f"pages/{id}", pages=len(true))
            self._metrics.bundles.inc()
        if made:
            await pages.insert(tx, made)
        if rows:
            await notifications.insert(tx, rows)
        await page_outcomes.append(tx, unreachable)
        return rows, bool(unreachable)


def page_of(org_id: str, user: str, id: UUID, members: Sequence[BundledPage]) -> NewPage:
    """The page that stands for these, the oldest first. Its text lists some of them; its link leads to all."""
    jobs = [pb.NotificationJob.FromString(each.job) for each in members]
    listed = [
        Member(job.title[:_TITLE], severity_word(job.severity), each.since)
        for job, each in zip(jobs, members, strict=True)
    ]
    high = any(each.urgency == Urgency.HIGH for each in members)
    page = Page(Kind.BUNDLE, Urgency.HIGH if high else Urgency.LOW)
    more = [f"and {len(listed) - _LISTED} more"] if len(listed) > _LISTED else []
    job = pb.NotificationJob(
        page=f"pages/{id}",
        org_id=org_id,
        type=pb.NOTIFICATION_TYPE_BUNDLE,
        user=user,
        incident=f"incidents/{id}",
        title=summary(listed),
        severity=min(each.severity for each in jobs),
        generation=GENERATION,
        text="\n".join([*(f"{each.since:%H:%M} {each.severity}: {each.title}" for each in listed[:_LISTED]), *more]),
    )
    return NewPage(id, org_id, user, id, page, priority_of(page.kind, page.urgency), GENERATION, None, job)
