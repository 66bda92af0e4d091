"""Messages of users and machines: sent, changed, cancelled."""

from collections.abc import Callable, Mapping, Sequence
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

from tocsin_notify.app.hints import Hints
from tocsin_notify.app.own_pages import plan_for
from tocsin_notify.app.slots import NOTIFICATIONS
from tocsin_notify.channels.base import BadAddress
from tocsin_notify.channels.phones import country_of
from tocsin_notify.channels.registry import TYPES
from tocsin_notify.domain.message import Step, Stored, in_time, require_reachable_time
from tocsin_notify.domain.page import Channel, Kind, Page
from tocsin_notify.domain.wall_time import BadTime, instant_of
from tocsin_notify.store import groups, messages, pages
from tocsin_notify.store.messages import Content, Message

ADDRESSED: Final = "addressed_messages_per_minute"
SCHEDULED: Final = "scheduled_messages"
WITH_ADDRESS: Final = (Channel.EMAIL, Channel.SMS, Channel.TELEGRAM, Channel.SLACK)
"""Channels whose addresses say all that is needed to send something there. The others need a secret of their receiver."""
_RETRY_AFTER: Final = 60.0


def limits(addressed: int, scheduled: int) -> tuple[Limit, ...]:
    """What a tenant may use, beside its notifications."""
    return per_minute(ADDRESSED, addressed), Limit(SCHEDULED, scheduled)


@dataclass(frozen=True, slots=True)
class Given:
    """What a caller asks a message to be, whose times were not read yet.

    `send_time`: None without one. With a `local_time` it is not looked at. `content.send_time` is not looked at either.
    """

    content: Content
    send_time: datetime | None

    def __repr__(self) -> str:
        return "Given()"


class Messages:
    """Use cases on messages; each runs in the caller's transaction."""

    def __init__(
        self, hints: Hints, budgets: Budgets, *, countries: frozenset[str], missing: Mapping[Channel, str]
    ) -> None:
        """`countries`: where numbers may be (ISO 3166-1 alpha-2); empty: anywhere. `missing`: why a channel cannot be used here."""
        self._hints = hints
        self._budgets = budgets
        self._countries = countries
        self._missing = missing

    async def send(self, tx: Tx, given: Given, sender: str) -> Message:
        """A new one, that is released when it is due.

        Raises INVALID_FIELD, CONTACT_METHOD_NOT_FOUND, NOT_VERIFIED, RATE_LIMITED, LIMIT_REACHED.
        """
        content = self._timed(self._addressed(given), await tx.now())
        await self._require_receiver(tx, content)
        self._budgets.take(tx.org_id, NOTIFICATIONS)
        if content.addressed:
            self._budgets.take(tx.org_id, ADDRESSED)
        await self._require_room(tx)
        made = await messages.insert(tx, new_id(), sender, content)
        self._remind(tx, made, await tx.now())
        return made

    async def accept(self, tx: Tx, given: Given) -> Content:
        """What will be sent later, and again and again; its times are not looked at.

        Raises INVALID_FIELD, CONTACT_METHOD_NOT_FOUND, NOT_VERIFIED, RATE_LIMITED.
        """
        content = self._addressed(given).content
        await self._require_receiver(tx, content)
        if content.addressed:
            self._budgets.take(tx.org_id, ADDRESSED)
        return content

    async def update(self, tx: Tx, id: UUID, etag: str, change: Callable[[Message], Given]) -> Message:
        """What `change` makes of a scheduled one.

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
        else:  # a time that has come meanwhile is no reason to refuse another text
            content = replace(self._addressed(given).content, send_time=before.send_time)
        await self._require_receiver(tx, content)
        if content.addressed and (content.channel, content.address) != (before.channel, before.address):
            self._budgets.take(tx.org_id, ADDRESSED)
        after = await messages.update(tx, id, content)
        self._remind(tx, after, await tx.now())
        return after

    async def cancel(self, tx: Tx, id: UUID, by: str) -> tuple[Message, bool]:
        """The message, and whether nothing was sent of it and nothing will be. Raises MESSAGE_NOT_FOUND.

        The row's lock decides: who releases a message holds it too (`messages.claim`). Of one that was released, the rows of its
        notifications decide, which senders claim one by one.
        """
        message = await find(tx, id, lock=True)
        reason = f"cancelled by {by}"
        match message.state:
            case Stored.SCHEDULED:
                message = await messages.end(tx, id, Stored.CANCELLED, reason)
                tx.after_commit(lambda: self._hints.disarm([id]))
            case Stored.RELEASED:
                released = [id]
                if message.group:
                    waiting, released = await groups.cancel(tx, id, reason)
                    if not waiting and not released:  # nobody was there to get it, or all of it was cancelled before
                        return message, await self._in_time(tx, message)
                    tx.after_commit(lambda: self._hints.disarm(waiting))
                stopped = await messages.stop_steps(tx, released, reason)
                tx.after_commit(lambda: self._hints.disarm(stopped))
                await pages.expire(tx, released)  # an attempt under way that fails is not followed by another
                message = await messages.end(tx, id, Stored.STOPPED, reason)
            case Stored.CANCELLED | Stored.STOPPED:
                pass
        return message, await self._in_time(tx, message)

    async def _in_time(self, tx: Tx, message: Message) -> bool:
        return in_time(message.state, (await steps_of(tx, [message]))[message.id])

    def _addressed(self, given: Given) -> Given:
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
        return Given(replace(content, address=address), given.send_time)

    def _timed(self, given: Given, now: datetime) -> Content:
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

    async def _require_receiver(self, tx: Tx, content: Content) -> None:
        if content.channel is None:
            await plan_for(tx, content.user_id, Page(Kind.MESSAGE, content.urgency))

    async def _require_room(self, tx: Tx) -> None:
        most = self._budgets.allowed(tx.org_id, SCHEDULED)
        if await messages.count_scheduled(tx, most) < most:
            return
        self._budgets.note_refusal(tx.org_id, SCHEDULED)
        raise TocsinError(
            ErrorReason.ERROR_REASON_LIMIT_REACHED,
            f"the tenant has {most} scheduled messages, and may have no more; cancel some, or ask the operator for a higher limit",
            metadata={"limit": SCHEDULED, "allowed": str(most)},
            retry_after=_RETRY_AFTER,
        )

    def _remind(self, tx: Tx, message: Message, now: datetime) -> None:
        delay = (message.send_time - now).total_seconds()
        tx.after_commit(lambda: self._hints.message(message.id, delay))


async def steps_of(tx: Tx, rows: Sequence[Message]) -> dict[UUID, list[Step]]:
    """What became of each, of a group message what became of those that it was divided into."""
    found = await messages.steps(tx, [row.id for row in rows if not row.group])
    return found | await groups.parts(tx, [row.id for row in rows if row.group])


async def find(tx: Tx, id: UUID, *, lock: bool = False) -> Message:
    """One of the tenant. Raises MESSAGE_NOT_FOUND."""
    found = await messages.read(tx, id, lock=lock)
    if found is None:
        raise not_found(ErrorReason.ERROR_REASON_MESSAGE_NOT_FOUND, f"messages/{id}")
    return found
