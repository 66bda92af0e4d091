"""Messages that are due become pages: the page of a message has its id, so none becomes two."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_INFO
from tocsin_kit.db.pool import Database
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger
from tocsin_kit.tasks.journal import NO_NOTES, Notes, note_all

from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.journal_notes import added
from tocsin_notify.app.delivery.pages_first import PagesFirst
from tocsin_notify.domain.page import NORMAL, Channel, DeathReason, Kind, Page, State, Urgency
from tocsin_notify.domain.planning import plan
from tocsin_notify.domain.reach import why_unreachable
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import dead_letters, notifications
from tocsin_notify.store.delivery.dead_letters import NewDeadLetter
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.messages import messages
from tocsin_notify.store.messages.messages import Message
from tocsin_notify.store.pages import pages, people
from tocsin_notify.store.pages.pages import NewPage
from tocsin_notify.store.pages.people import Person

_log = get_logger(__name__)

MOST_PER_ROUND: Final = 100
_QUIET: Final = "no contact method for messages: each of those that are verified and enabled rings"


class Release:
    """One object per process. Every replica may run it: a message is claimed by its row, in the transaction that makes its page."""

    def __init__(
        self, db: Database, hints: Hints, metrics: NotifyMetrics, first: PagesFirst, notes: Notes = NO_NOTES
    ) -> None:
        """`first`: pages to which a round gives way."""
        self._first = first
        self._db = db
        self._hints = hints
        self._metrics = metrics
        self._notes = notes

    async def everything(self) -> None:
        """Rounds until nothing more is due."""
        while await self.due():
            pass

    async def due(self) -> bool:
        """One round; whether anything was due. Raises DATABASE_UNAVAILABLE: what was due still is."""
        rows: list[NewNotification] = []
        letters: list[NewDeadLetter] = []
        await self._first.give_way()
        async with self._db.claim() as tx:
            due = await messages.claim(tx, MOST_PER_ROUND)
            if not due:
                return False
            methods = {new_id(): message for message in due if message.channel is not None}
            method_of = {message.id: method for method, message in methods.items()}
            if methods:
                await messages.add_addresses(tx, methods)
            users = {(each.org_id, each.user_id) for each in due if each.channel is None}
            known = await people.read(tx, users) if users else {}
            made = [page_of(message, method_of.get(message.id)) for message in due]
            await pages.insert(tx, made)
            for message, page in zip(due, made, strict=True):
                way = _way(message, page, known.get((message.org_id, message.user_id)))
                if isinstance(way, str):
                    letters.append(_letter(message, page, why=way))
                else:
                    rows.append(_notification(page, *way))
            if rows:
                await notifications.insert(tx, rows)
            if letters:
                await messages.note_unreachable(tx, _reasons(letters))
                await dead_letters.insert(tx, letters)
        for letter in letters:
            self._metrics.dead_letters.labels(letter.reason).inc()
            _log.error("nobody_to_message", org_id=letter.org_id, user=letter.user_id, detail=letter.detail)
        self._hints.now([row.id for row in rows])
        note_all(self._notes, (added(row, due[0].update_time) for row in rows))
        return True


def page_of(message: Message, method: UUID | None) -> NewPage:
    """The page of a message; to `method` alone, if it is for an address."""
    job = pb.NotificationJob(
        page=f"pages/{message.id}",
        org_id=message.org_id,
        type=pb.NOTIFICATION_TYPE_MESSAGE,
        user=message.user_id,
        severity=SEVERITY_CRITICAL if message.urgency is Urgency.HIGH else SEVERITY_INFO,
        title=message.subject,
        text=message.body,
        about=message.about,
        actor=message.sender,
    )
    job.planned_time.FromDatetime(message.send_time)
    expire_time = None
    if message.expire_seconds is not None:
        expire_time = message.send_time + timedelta(seconds=message.expire_seconds)
    page = Page(Kind.MESSAGE, message.urgency, only_method=method)
    return NewPage(
        message.id, message.org_id, message.user_id, None, page, NORMAL, 0, message.send_time, job, expire_time
    )


def _way(message: Message, page: NewPage, person: Person | None) -> tuple[UUID, Channel] | str:
    """Through which contact method the message goes; or why there is none."""
    if message.channel is not None and page.page.only_method is not None:
        return page.page.only_method, message.channel
    person = person or Person()
    planned = plan(page.page, person.methods, person.rules)
    if not planned:
        return why_unreachable(person.methods) or _QUIET
    return planned[0].method.id, planned[0].method.channel


def _notification(page: NewPage, method: UUID, channel: Channel) -> NewNotification:
    return NewNotification(
        id=new_id(),
        org_id=page.org_id,
        page_id=page.id,
        user_id=page.user_id,
        incident=None,
        generation=page.generation,
        priority=page.priority,
        contact_method=method,
        channel=channel,
        step=0,
        state=State.PENDING,
        reason="",
        delay=0.0,
        outlasts=False,
    )


def _letter(message: Message, page: NewPage, why: str) -> NewDeadLetter:
    return NewDeadLetter(
        id=new_id(),
        org_id=message.org_id,
        notification_id=None,
        page_id=page.id,
        user_id=message.user_id,
        incident=None,
        reason=DeathReason.NO_CONTACT_METHOD,
        detail=f"{message.user_id}: {why}",
        job=page.job.SerializeToString(),
    )


def _reasons(letters: Sequence[NewDeadLetter]) -> dict[tuple[str, UUID], str]:
    return {(letter.org_id, letter.page_id): letter.detail for letter in letters if letter.page_id is not None}
