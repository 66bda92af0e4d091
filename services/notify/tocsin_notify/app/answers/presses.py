"""A person answers a page by a button or a key of the channel that delivered it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from typing import Final
from uuid import UUID, uuid5

import grpc
from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin.notify.v1.notification_pb2 import NotificationJob
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError
from tocsin_kit.logging import get_logger

from tocsin_notify.app.answers.answer import Escalation, Whole, is_refused
from tocsin_notify.app.contacts.notification_settings import language_for
from tocsin_notify.app.delivery.receipts import AttemptName, Receipts
from tocsin_notify.app.pages.stored_jobs import job_of_page
from tocsin_notify.domain.action import Action, Asked, Person
from tocsin_notify.domain.evidence import Evidence, Receipt
from tocsin_notify.domain.page import Channel, Kind, State
from tocsin_notify.domain.template import LANGUAGES
from tocsin_notify.store.contacts import contacts
from tocsin_notify.store.delivery import receipts as store
from tocsin_notify.store.delivery.rows import AnsweredPage
from tocsin_notify.texts.replies import reply_words_of

_log = get_logger(__name__)

_FRESH: Final = timedelta(hours=23)
"""Escalation remembers a request for 24 hours after it was made. A press that is repeated later might act twice."""
_OVER: Final = frozenset(
    {ErrorReason.ERROR_REASON_INCIDENT_RESOLVED, ErrorReason.ERROR_REASON_INCIDENT_NOT_FOUND},
)


class Answer(Enum):
    """What a press led to."""

    DONE = auto()
    UNKNOWN = auto()
    """There is no such page here (any more), or its person was deleted."""
    STALE = auto()
    """The page is too old."""
    OVER = auto()
    """The incident is resolved, or no longer known."""
    MERGED = auto()
    """The incident is merged into another one."""
    LAST_LEVEL = auto()
    """There is no further level to page."""
    REFUSED = auto()
    """Escalation refuses it, and would refuse each repeat."""
    LATER = auto()
    """It is not certain that the action was done. The caller may ask for the same again."""
    SEVERAL = auto()
    """The message stands for several incidents, and this action is possible for one only."""
    STRANGER = auto()
    """The account that pressed belongs to no user."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a press led to, and the language of the person who is told."""

    answer: Answer
    language: str = LANGUAGES[0]

    def said(self, action: Action) -> str:
        """The answer, in words."""
        words = reply_words_of(self.language)
        name = f"done_{action}" if self.answer is Answer.DONE else f"answer_{self.answer.name.lower()}"
        return str(getattr(words, name))


@dataclass(frozen=True, slots=True)
class Presser:
    """The account that pressed, as the channel names it: the address of a verified contact method of the presser."""

    channel: Channel
    address: str

    def press(self, attempt: AttemptName, action: Action, occurrence: str) -> "Press":
        """The press of a button in the attempt's message, by this account."""
        via, code = str(self.channel), f"button {action}"
        return Press(attempt, action, via, f"button {self.address}", code, self, occurrence)


@dataclass(frozen=True, slots=True)
class Press:
    """`via`: the channel. `event`: the provider's name for what happened, or who pressed; one event
    acts once.

    `code` is kept with the evidence. Without `by`, the person who was paged pressed: no other person has the button.
    `occurrence`: the provider's name for this press, of a button that can be pressed several times. The button acts on
    each press, except "next level": a person who is half asleep and presses twice pages one level. `time`: when the
    button was pressed, if the provider says so and gives each press its own time. None: the press may be the repeat of
    any press since the attempt began. `text`: the text of a note.
    """

    attempt: AttemptName
    action: Action
    via: str
    event: str
    code: str = ""
    by: Presser | None = None
    occurrence: str = ""
    time: datetime | None = None
    text: str = ""

    @property
    def in_words(self) -> str:
        """`via` as the timeline says it: what people read has no underscores, and the contract of escalation takes none."""
        return self.via.replace("_", " ")

    @property
    def request(self) -> str:
        """The request id, the same when the provider delivers the press again."""
        occurrence = "" if self.action is Action.ESCALATE else self.occurrence
        return " ".join(filter(None, (self.via, self.event, str(self.action), occurrence)))


@dataclass(frozen=True, slots=True)
class _Found:
    """The page of an attempt, who answers it, and what that proves."""

    row: AnsweredPage
    incident: UUID
    user: str
    language: str
    receipt: Receipt


class Presses:
    """Acts as the person who was paged, or as the account that pressed."""

    def __init__(self, db: Database, escalation: Escalation, receipts: Receipts, whole: Whole) -> None:
        self._db = db
        self._whole = whole
        self._escalation = escalation
        self._receipts = receipts

    async def job(self, attempt: AttemptName) -> NotificationJob | None:
        """The job of the page; None when the page is not known here (any more)."""
        async with self._db.reading(attempt.org_id) as tx:
            row = await store.answered_page(tx, attempt.notification, attempt.number)
        if row is None:
            return None
        return job_of_page(attempt.org_id, row.page_id, Kind(row.type), row.user_id, row.incident, row.job)

    async def now(self) -> float:
        """Unix seconds of the database's clock."""
        async with self._db.system() as tx:
            return (await tx.now()).timestamp()

    async def find_and_take(self, notification: UUID, attempt: int, press: Callable[[AttemptName], Press]) -> Taken:
        """Like `take`, for what names a notification and not its tenant; `press` of the attempt, once that is known."""
        async with self._db.system() as tx:
            org_id = await store.tenant_of(tx, notification)
        if org_id is None:
            return Taken(Answer.UNKNOWN)
        return await self.take(press(AttemptName(org_id, notification, attempt)))

    async def take(self, press: Press) -> Taken:
        """Do the action, once for each event. The answer is noted as evidence even if the action fails. Raises
        DATABASE_UNAVAILABLE."""
        name = press.attempt
        async with self._db.reading(name.org_id) as tx:
            found = await _find(tx, press)
        if isinstance(found, Taken):
            return found
        noting = self._receipts.take(name, found.receipt)
        if found.row.state not in (State.SENT, State.SENDING):
            # It proves that the message was sent, which the action would have no reason to believe any more: it stops a page
            # that waits to be tried again.
            await noting
            return Taken(await self._act(press, found), found.language)
        # The person who pressed waits for both, but not for one after the other.
        noted = asyncio.ensure_future(noting)
        try:
            answer = await self._act(press, found)
        except BaseException:
            await asyncio.gather(noted, return_exceptions=True)
            raise
        try:
            await noted
        except TocsinError as error:
            if answer is not Answer.DONE:
                raise
            # What is done is not told as failed: who pressed would press again, or believe that no one has answered.
            _log.warning(
                "answer_not_noted", org_id=name.org_id, notification=str(name.notification), error=error.message
            )
        return Taken(answer, found.language)

    async def _act(self, press: Press, found: _Found) -> Answer:
        row, user = found.row, found.user
        person = Person(press.attempt.org_id, user, f"incidents/{found.incident}")
        fields = {"org_id": person.org_id, "user": person.user, "incident": person.incident, "via": press.via}
        try:
            if row.type == Kind.BUNDLE:
                if press.action is not Action.ACKNOWLEDGE:
                    return Answer.SEVERAL
                await self._whole.acknowledge(person.org_id, user, row.page_id, press.in_words)
            else:
                request_id = uuid5(row.page_id, press.request)
                await self._escalation.act(person, Asked(press.action, press.text), request_id, press.in_words)
        except TocsinError as error:
            answer = _meaning(error)
            _log.warning("answer_not_taken", action=str(press.action), error=error.message, **fields)
            return answer
        _log.info("answered", action=str(press.action), **fields)
        return Answer.DONE


async def _find(tx: Tx, press: Press) -> Taken | _Found:
    name = press.attempt
    row = await store.answered_page(tx, name.notification, name.number)
    if row is None or row.incident is None or (row.gone and press.by is None):
        return Taken(Answer.UNKNOWN)
    user: str | None = row.user_id
    language = row.language or LANGUAGES[0]
    if press.by is not None:
        user = await contacts.owner_of(tx, press.by.channel, press.by.address)
        if user is not None and user != row.user_id:
            language = await language_for(tx, user)
    if user is None:
        return Taken(Answer.STRANGER, language)
    if row.now - (press.time or row.start_time) > _FRESH:
        return Taken(Answer.STALE, language)
    receipt = Receipt(Evidence.ANSWERED, row.provider_id, press.code or str(press.action))
    return _Found(row, row.incident, user, language, receipt)


def _meaning(error: TocsinError) -> Answer:
    if error.reason in _OVER:
        return Answer.OVER
    if error.reason == ErrorReason.ERROR_REASON_NO_NEXT_LEVEL:
        return Answer.LAST_LEVEL
    if error.reason == ErrorReason.ERROR_REASON_INCIDENT_STATE:
        # Of all states except "resolved", this is the only one that refuses an answer from a phone.
        return Answer.MERGED
    if error.code is grpc.StatusCode.FAILED_PRECONDITION:
        return Answer.OVER
    if is_refused(error):
        return Answer.REFUSED
    return Answer.LATER
