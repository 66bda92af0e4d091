"""Messages of users and machines: sent, changed, cancelled."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.budgets import Budgets, Limit, per_minute
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.ids import new_id
from tocsin_kit.rpc.masks import require_etag
from tocsin_kit.tasks.journal import NO_NOTES, Notes, note_all

from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.journal_notes import scheduled
from tocsin_notify.app.delivery.slots import NOTIFICATIONS
from tocsin_notify.app.messages.message_room import SCHEDULED, MessageRoom
from tocsin_notify.app.pages.own_pages import plan_for, plan_of
from tocsin_notify.channels.base import BadAddress
from tocsin_notify.channels.phones import country_of
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.message import Step, Stored, in_time, require_reachable_time
from tocsin_notify.domain.page import Channel, Kind, Page
from tocsin_notify.domain.wall_time import BadTime, instant_of
from tocsin_notify.store.messages import groups, messages
from tocsin_notify.store.messages.messages import Content, Message, New
from tocsin_notify.store.pages import pages, people
from tocsin_notify.store.pages.people import Person, User

ADDRESSED: Final = "addressed_messages_per_minute"
WITH_ADDRESS: Final = (Channel.EMAIL, Channel.SMS, Channel.TELEGRAM, Channel.SLACK)
"""Channels to which a message can be sent with the address alone. The others need a secret of the receiver as well."""


def limits(addressed: int, scheduled: int) -> tuple[Limit, ...]:
    """The tenant's limits on messages, beside those on its notifications."""
    return per_minute(ADDRESSED, addressed), Limit(SCHEDULED, scheduled)


@dataclass(frozen=True, slots=True)
class MessageInput:
    """The message that a caller asks for; its times are not parsed yet.

    `send_time`: None if none was given. With a `local_time` it is ignored. `content.send_time` is ignored as well.
    """

    content: Content
    send_time: datetime | None

    def __repr__(self) -> str:
        return "MessageInput()"


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A message after its cancel. `in_time`: no part of it was sent, and none will be."""

    message: Message
    steps: Sequence[Step]
    in_time: bool


class Messages:
    """Use cases on messages; each runs in the caller's transaction."""

    def __init__(
        self,
        hints: Hints,
        budgets: Budgets,
        *,
        countries: frozenset[str],
        missing: Mapping[Channel, str],
        notes: Notes = NO_NOTES,
    ) -> None:
        """`countries`: where numbers may be (ISO 3166-1 alpha-2); empty: anywhere. `missing`: why a channel cannot be used here."""
        self._hints = hints
        self._notes = notes
        self._budgets = budgets
        self._room = MessageRoom(budgets)
        self._countries = countries
        self._missing = missing

    async def send(self, tx: Tx, wanted: Sequence[tuple[MessageInput, str]]) -> list[Message | TocsinError]:
        """New messages, each with its sender, released when they are due; returns an answer for each.

        Errors: INVALID_FIELD, CONTACT_METHOD_NOT_FOUND, NOT_VERIFIED, RATE_LIMITED, LIMIT_REACHED.
        """
        now = await tx.now()
        checked = [self._checked(given, now) for given, _ in wanted]
        users = {(tx.org_id, each.user_id) for each in checked if isinstance(each, Content) and each.channel is None}
        known = await people.read(tx, users) if users else {}
        room = await self._room.left(tx, len(wanted))
        new: dict[int, New] = {}
        for place, (content, (_, sender)) in enumerate(zip(checked, wanted, strict=True)):
            if isinstance(content, Content):
                try:
                    self._admit(tx.org_id, content, known, room - len(new))
                except TocsinError as error:
                    checked[place] = error
                else:
                    new[place] = New(new_id(), sender, content)
        made = dict(zip(new, await messages.insert(tx, list(new.values())), strict=True))
        self._remind(tx, made.values(), now)
        return [made[place] if isinstance(each, Content) else each for place, each in enumerate(checked)]

    async def accept(self, tx: Tx, given: MessageInput) -> Content:
        """Check the content of a recurring message; its times are ignored.

        Raises INVALID_FIELD, CONTACT_METHOD_NOT_FOUND, NOT_VERIFIED, RATE_LIMITED.
        """
        content = self._addressed(given).content
        await self._require_receiver(tx, content)
        if content.addressed:
            self._budgets.take(tx.org_id, ADDRESSED)
        return content

    async def update(self, tx: Tx, id: UUID, etag: str, change: Callable[[Message], MessageInput]) -> Message:
        """A scheduled message after `change`.

        Raises MESSAGE_NOT_FOUND, MESSAGE_STATE, ETAG_MISMATCH, INVALID_FIELD, CONTACT_METHOD_NOT_FOUND, NOT_VERIFIED, RATE_LIMITED.
        """
        before = await find(tx, id, lock=True)
        if before.state is not Stored.SCHEDULED:
            raise TocsinError(
                ErrorReason.ERROR_REASON_MESSAGE_STATE,
                f"messages/{id} is not scheduled any more: it was handed to its channel, or cancelled",
                metadata={"name": f"messages/{id}"},
            )
        require_etag(etag, before.version)
        given = change(before)
        moved = (given.content.local_time, given.content.time_zone) != (before.local_time, before.time_zone)
        if moved or given.send_time != before.send_time:
            content = self._timed(self._addressed(given), await tx.now())
        else:  # a send time that passed meanwhile is no reason to refuse another text
            content = replace(self._addressed(given).content, send_time=before.send_time)
        await self._require_receiver(tx, content)
        if content.addressed and (content.channel, content.address) != (before.channel, before.address):
            self._budgets.take(tx.org_id, ADDRESSED)
        after = await messages.update(tx, id, content)
        self._remind(tx, [after], await tx.now())
        return after

    async def cancel(self, tx: Tx, wanted: Sequence[tuple[UUID, str]]) -> list[Cancelled | TocsinError]:
        """Cancel these, each for the caller named with it; returns an answer for each. Errors: MESSAGE_NOT_FOUND.

        The row locks decide the order: the release of a message locks its row too (`messages.claim`). For a message
        that was released, the rows of its notifications decide, which senders claim one by one.
        """
        reasons = {id: f"cancelled by {by}" for id, by in reversed(wanted)}
        held = await messages.hold(tx, reasons)
        ends: list[tuple[UUID, Stored, str]] = []
        released: dict[UUID, str] = {}
        unneeded: list[UUID] = []
        for id, message in held.items():
            reason = reasons[id]
            if message.state is Stored.SCHEDULED:
                ends.append((id, Stored.CANCELLED, reason))
                unneeded.append(id)
            elif message.state is Stored.RELEASED:
                parts = [id]
                if message.group:
                    waiting, parts = await groups.cancel(tx, id, reason)
                    if not waiting and not parts:  # it had no receivers, or all of it was cancelled before
                        continue
                    unneeded += waiting
                released |= dict.fromkeys(parts, reason)
                ends.append((id, Stored.STOPPED, reason))
        if released:
            unneeded += await messages.stop_steps(tx, released)
            await pages.expire(tx, list(released))  # if an attempt that is under way fails, no other attempt follows
        held |= await messages.end(tx, ends)
        tx.after_commit(lambda: self._hints.disarm(unneeded))
        steps = await steps_of(tx, [each for each in held.values() if each.state is not Stored.CANCELLED])
        return [_cancelled(id, held.get(id), steps.get(id, ())) for id, _ in wanted]

    def _addressed(self, given: MessageInput) -> MessageInput:
        content = given.content
        if content.channel is None or content.group:
            return given
        if content.channel not in WITH_ADDRESS:
            allowed = ", ".join(f"CHANNEL_{each.name}" for each in WITH_ADDRESS)
            raise invalid("message.address.channel", f"must be one of {allowed}; reach others through a user")
        if content.channel in self._missing:
            raise invalid("message.address.channel", self._missing[content.channel])
        try:
            address = TYPES[content.channel].check(content.address, False)
        except BadAddress as error:
            raise invalid("message.address.address", str(error)) from error
        if content.channel is Channel.SMS and self._countries:
            country = country_of(address)
            if country not in self._countries:
                raise invalid(
                    "message.address.address",
                    f"must be a number in one of {', '.join(sorted(self._countries))} (NOTIFY_MESSAGE_COUNTRIES); "
                    f"it is one in {country or 'no known country'}",
                )
        return MessageInput(replace(content, address=address), given.send_time)

    def _timed(self, given: MessageInput, now: datetime) -> Content:
        content, field = given.content, "message.send_time"
        try:
            if content.local_time:
                field = "message.local_time"
                send_time = instant_of(content.local_time, content.time_zone)
            else:
                send_time = now if given.send_time is None else given.send_time
            require_reachable_time(send_time, now)
        except BadTime as error:
            raise invalid(f"{field}.{error.field}" if error.field else field, str(error)) from error
        return replace(content, send_time=send_time)

    def _checked(self, given: MessageInput, now: datetime) -> Content | TocsinError:
        try:
            return self._timed(self._addressed(given), now)
        except TocsinError as error:
            return error

    def _admit(self, org_id: str, content: Content, known: Mapping[User, Person], room: int) -> None:
        if content.channel is None:
            plan_of(known[org_id, content.user_id], content.user_id, _page(content))
        self._budgets.take(org_id, NOTIFICATIONS)
        if content.addressed:
            self._budgets.take(org_id, ADDRESSED)
        if room <= 0:
            raise self._room.refusal(org_id)

    async def _require_receiver(self, tx: Tx, content: Content) -> None:
        if content.channel is None:
            await plan_for(tx, content.user_id, _page(content))

    def _remind(self, tx: Tx, made: Iterable[Message], now: datetime) -> None:
        due, notes = [], []
        for each in made:
            due.append((each.id, (each.send_time - now).total_seconds()))
            notes.append(scheduled(each.id, each.org_id, each.user_id, each.channel, each.send_time, now))
        tx.after_commit(lambda: self._hints.messages(due))
        tx.after_commit(lambda: note_all(self._notes, notes))


def _page(content: Content) -> Page:
    return Page(Kind.MESSAGE, content.urgency)


def _cancelled(id: UUID, message: Message | None, steps: Sequence[Step]) -> Cancelled | TocsinError:
    return unknown(id) if message is None else Cancelled(message, steps, in_time(message.state, steps))


async def steps_of(tx: Tx, rows: Sequence[Message]) -> dict[UUID, list[Step]]:
    """The notifications of each message; for a group message those of the messages it was divided into."""
    alone = [row.id for row in rows if not row.group]
    found = await messages.steps(tx, alone) if alone else {}
    return found | await groups.parts(tx, [row.id for row in rows if row.group])


async def find(tx: Tx, id: UUID, *, lock: bool = False) -> Message:
    """One of the tenant. Raises MESSAGE_NOT_FOUND."""
    found = await messages.read(tx, id, lock=lock)
    if found is None:
        raise unknown(id)
    return found


def unknown(id: UUID) -> TocsinError:
    """MESSAGE_NOT_FOUND."""
    return not_found(ErrorReason.ERROR_REASON_MESSAGE_NOT_FOUND, f"messages/{id}")
