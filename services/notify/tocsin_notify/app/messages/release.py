"""Due messages become pages: the page has the id of the message, so a message never becomes two pages."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Final
from uuid import UUID

from tocsin.notify.v1 import notification_pb2 as pb
from tocsin.type.v1.severity_pb2 import SEVERITY_CRITICAL, SEVERITY_INFO
from tocsin_kit.db.pool import Database, OneRoundTrip, Tx
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger
from tocsin_kit.loops import until
from tocsin_kit.tasks.journal import NO_NOTES, Notes, note_all
from tocsin_kit.time_slices import CountSlice, yield_to_others

from tocsin_notify.app.delivery.calls import Start
from tocsin_notify.app.delivery.deliver import FRESH_SECONDS
from tocsin_notify.app.delivery.first_calls import FirstCalls, TransactionCalls
from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.journal_notes import added
from tocsin_notify.app.delivery.people_first import PeopleFirst
from tocsin_notify.domain.notification_settings import EVERYBODY
from tocsin_notify.domain.page import NORMAL, Channel, DeathReason, Kind, Page, State, Urgency
from tocsin_notify.domain.planning import plan
from tocsin_notify.domain.reach import why_unreachable
from tocsin_notify.metrics import NotifyMetrics
from tocsin_notify.store.delivery import dead_letters
from tocsin_notify.store.delivery.dead_letters import NewDeadLetter
from tocsin_notify.store.delivery.gate import gate_clock
from tocsin_notify.store.delivery.notifications import NewNotification
from tocsin_notify.store.messages import messages
from tocsin_notify.store.messages.messages import Message
from tocsin_notify.store.pages import pages, people
from tocsin_notify.store.pages.pages import NewPage, Stored
from tocsin_notify.store.pages.people import Person, StoredTarget, User

_log = get_logger(__name__)

MOST_PER_ROUND: Final = 100
_LEAST_PER_ROUND: Final = 20
"""A round takes at least this many, even if fewer could leave at once: the round itself costs about as much as this
many messages."""
_MOST_PER_LOOK: Final = 250
"""One query reads more rows than it finds messages, so its result is used for many rounds. More than leave while it is fresh
would be read again."""
_SIDE_BY_SIDE: Final = 2
"""Rounds at once: while PostgreSQL stores the pages of one round, the calls of the other one leave."""
_SLOW_SECONDS: Final = 0.25
"""Seconds without room for a round after which a channel is slow, and is not waited for."""
_PAUSE: Final = 0.002
_QUIET: Final = "no contact method for messages: each of those that are verified and enabled rings"


@dataclass(slots=True)
class _Made:
    """The pages that one transaction made of messages."""

    time: datetime | None = None
    """By the database's clock; None: no message was due."""
    rows: list[NewNotification] = field(default_factory=list)
    letters: list[NewDeadLetter] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    """What one look found."""

    ids: deque[UUID]
    end: float
    """When it is not fresh any more, by `monotonic`."""
    slow: bool = False
    """A channel had no room for too long."""


class Release:
    """One object per process. Every replica may run it: a message is claimed by its row, in the transaction that makes its page.

    A message that gets a slot is stored as being sent, with its attempt. Its call starts when the transaction has
    committed, as that of a page does.
    """

    def __init__(
        self,
        db: Database,
        first_calls: FirstCalls,
        hints: Hints,
        metrics: NotifyMetrics,
        first: PeopleFirst,
        notes: Notes = NO_NOTES,
    ) -> None:
        """`first`: held by new pages and by people who answer, to which a round gives way."""
        self._db = db
        self._first_calls = first_calls
        self._hints = hints
        self._metrics = metrics
        self._first = first
        self._notes = notes
        self._channels: set[Channel] = set()
        """Of the last round that found something."""
        self._without_slots: dict[TransactionCalls, int] = {}
        """For each round that has not taken its slots yet, the number of its messages."""
        self.stopping = False
        """If set, messages become pages which other replicas send."""

    async def everything(self) -> None:
        """Rounds until no more is due. Raises DATABASE_UNAVAILABLE: due messages stay due, or are tried again soon."""
        follows = False
        while await self._look(follows):
            follows = True

    async def _look(self, follows: bool) -> bool:
        """Release the messages that one query finds, as long as its result is fresh; returns whether any was released.
        `follows`: on a look that released some."""
        async with self._db.autocommit() as tx:
            found = _Found(deque(await messages.due(tx, _MOST_PER_LOOK)), monotonic() + FRESH_SECONDS)
        lanes = min(_SIDE_BY_SIDE, -(-len(found.ids) // _LEAST_PER_ROUND))
        ended = await asyncio.gather(*(self._lane(found, follows) for _ in range(lanes)), return_exceptions=True)
        for each in ended:
            if isinstance(each, BaseException):
                raise each
        return any(ended)

    async def _lane(self, found: _Found, waits: bool) -> bool:
        """Rounds, one after the other, each with about as many messages as can leave at once. Returns whether a round
        released something. `waits`: the first round waits for room as well.

        A message that is released earlier leaves no sooner: it would be found and claimed by itself later, at twice the
        cost. So each round waits for room in its channel. Once that takes too long, all messages that were found are
        released without waiting, for some may leave by another channel.
        """
        released, limit = False, _LEAST_PER_ROUND
        while found.ids:
            if waits:
                fits = await self._room(found)
                if released and fits is not None and monotonic() > found.end:
                    break
                limit = MOST_PER_ROUND if fits is None else max(_LEAST_PER_ROUND, fits)
            waits = True
            if found.ids:  # the other lane may have taken the rest
                released |= await self._round([found.ids.popleft() for _ in range(min(limit, len(found.ids)))])
        return released

    async def _room(self, found: _Found) -> int | None:
        """How many calls could begin; None: the channel is slow, or was in this look."""
        if not found.slow:
            await until(lambda: self._fits() is not None, _SLOW_SECONDS, step=_PAUSE)
        fits = self._fits()
        found.slow |= fits is None
        return fits

    async def _round(self, ids: Sequence[UUID]) -> bool:
        """Whether any of these was released."""
        calls = self._first_calls.of_transaction()
        self._without_slots[calls] = len(ids)
        starts: list[Start] = []
        try:
            await self._first.give_way()
            async with self._db.claim() as tx:
                made = await self._make(tx, calls, ids)
                since = gate_clock()
                starts = calls.take()
        except BaseException:
            self._first_calls.calls.abandon(starts)
            raise
        finally:
            self._without_slots.pop(calls, None)
            calls.release()
        await self._first_calls.calls.start(starts, since, give_way=self._let_pages_pass)
        for letter in made.letters:
            self._metrics.dead_letters.labels(letter.reason).inc()
            _log.error("nobody_to_message", org_id=letter.org_id, user=letter.user_id, detail=letter.detail)
        if made.rows:
            self._channels = {row.channel for row in made.rows}
        self._hints.now([row.id for row in made.rows if row.state is State.PENDING])
        note_all(self._notes, (added(row, made.time) for row in made.rows if made.time is not None))
        return made.time is not None

    async def _let_pages_pass(self) -> None:
        await yield_to_others()
        await self._first.give_way()

    def _fits(self) -> int | None:
        """How many calls could begin in each of the channels, beside those of other rounds; None while that is less
        than half of the maximum."""
        rooms = [self._first_calls.slots.room(channel, NORMAL) for channel in self._channels]
        awaited = sum(self._without_slots.values())
        if any(2 * (free - awaited) < most for free, most in rooms):
            return None
        return min((free - awaited for free, _ in rooms), default=0)

    async def _make(self, tx: Tx, calls: TransactionCalls, ids: Sequence[UUID]) -> _Made:
        due = await messages.claim(tx, ids)
        if not due:
            return _Made()
        made = _Made(due[0].update_time)
        methods = {new_id(): message for message in due if message.channel is not None}
        method_of = {message.id: method for method, message in methods.items()}
        known = await people.read(tx, {_reader(message) for message in due})
        new, time_slice = list[NewPage](), CountSlice()
        for message in due:
            await time_slice.yield_if_over()
            new.append(page_of(message, method_of.get(message.id)))
        round_trip = OneRoundTrip(tx)
        if methods:
            await messages.add_addresses(round_trip, methods)
        stored = await pages.insert(round_trip, new)
        for message, page in zip(due, new, strict=True):
            await time_slice.yield_if_over()
            person = known[_reader(message)]
            way = _way(message, page, person)
            if isinstance(way, str):
                made.letters.append(_letter(message, page, why=way))
                continue
            method, target = way
            id, now, language = new_id(), self._start_time(page, stored), person.settings.language
            begins = now is not None and calls.add(id, page, method, target, now=now, language=language)
            state = State.SENDING if begins else State.PENDING
            made.rows.append(_notification(id, page, method, target.channel, state))
        self._without_slots.pop(calls, None)
        if made.rows:
            await calls.insert(tx, made.rows)
        if made.letters:
            await messages.note_unreachable(tx, _reasons(made.letters))
            await dead_letters.insert(tx, made.letters)
        return made

    def _start_time(self, page: NewPage, stored: Stored) -> datetime | None:
        """When its call begins. None: the deliverer takes it; it cancels a message that is too late, with the reason."""
        if self.stopping or stored.paused or stored.now is None or page.id not in stored.fences:
            return None
        expired = page.expire_time is not None and page.expire_time <= stored.now
        return None if expired else stored.now


def page_of(message: Message, method: UUID | None) -> NewPage:
    """The page of a message; only to `method`, if the message is for an address."""
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


def _reader(message: Message) -> User:
    """The user whose settings apply; those for all users, if the message is for an address."""
    return message.org_id, message.user_id or EVERYBODY


def _way(message: Message, page: NewPage, person: Person) -> tuple[UUID, StoredTarget] | str:
    """The contact method for the message, and its address; or the reason why there is none."""
    if message.channel is not None and page.page.only_method is not None:
        return page.page.only_method, StoredTarget(message.channel, message.address, None, "")
    planned = plan(page.page, person.methods, person.rules)
    if not planned:
        return why_unreachable(person.methods) or _QUIET
    method = planned[0].method.id
    return method, person.targets[method]


def _notification(id: UUID, page: NewPage, method: UUID, channel: Channel, state: State) -> NewNotification:
    return NewNotification(
        id=id,
        org_id=page.org_id,
        page_id=page.id,
        user_id=page.user_id,
        incident=None,
        generation=page.generation,
        priority=page.priority,
        contact_method=method,
        channel=channel,
        step=0,
        state=state,
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
