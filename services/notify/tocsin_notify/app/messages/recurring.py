"""Recurring messages: made, paused, resumed, ended, and their occurrences.

The rows are the record, and a sweep finds what is due. The message of an occurrence is made in the transaction that
moves the recurring one to its next time, under an id computed from both. So it is made once, even if two processes do
the same.
"""

import time
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

from tocsin.errors.v1.error_reason_pb2 import ErrorReason
from tocsin_kit.budgets import Budgets
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.db.quotas import require_room
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.ids import new_id
from tocsin_kit.logging import get_logger
from tocsin_kit.tasks.journal import NO_NOTES, Notes, note_all

from tocsin_notify.app.delivery.hints import Hints
from tocsin_notify.app.delivery.journal_notes import scheduled
from tocsin_notify.app.messages.messages import MessageInput, Messages
from tocsin_notify.domain.message import AHEAD
from tocsin_notify.domain.recurrence import BadRule, Recurrence, RecurringState, read_rule
from tocsin_notify.domain.wall_time import BadTime, wall_time_of
from tocsin_notify.store.messages import recurring
from tocsin_notify.store.messages.recurring import Occurrence, Recurring, Template, Turn

_log = get_logger(__name__)

MOST_PER_ROUND: Final = 500
_BEHIND: Final = timedelta(days=3660)
"""How long ago a rule may begin: all its days from then on are counted."""
_TURN: Final = 0.02
"""Seconds of work on rules in one transaction. Longer work would delay the pages of all tenants."""
_OVER: Final = "its rule has no occurrence left"


class RecurringMessages:
    """Use cases on recurring messages; each runs in the caller's transaction."""

    def __init__(self, messages: Messages, budgets: Budgets) -> None:
        self._messages = messages
        self._budgets = budgets

    async def create(self, tx: Tx, given: MessageInput, start: tuple[str, str], rule: str, sender: str) -> Recurring:
        """An active one. `start`: local time and zone.

        Raises INVALID_FIELD, CONTACT_METHOD_NOT_FOUND, NOT_VERIFIED, RATE_LIMITED, LIMIT_REACHED.
        """
        now = await tx.now()
        next_time = _first(start, rule, now)
        content = await self._messages.accept(tx, given)
        await require_room(tx, "recurring_messages", self._budgets, where="state <> 'ended'")
        template = Template(
            content.user_id,
            content.channel,
            content.address,
            content.subject,
            content.body,
            content.about,
            content.urgency,
            content.expire_seconds,
            *start,
            rule,
        )
        return await recurring.insert(tx, new_id(), sender, template, next_time)


async def find(tx: Tx, id: UUID, *, lock: bool = False) -> Recurring:
    """One of the tenant. Raises RECURRING_MESSAGE_NOT_FOUND."""
    found = await recurring.read(tx, id, lock=lock)
    if found is None:
        raise not_found(ErrorReason.ERROR_REASON_RECURRING_MESSAGE_NOT_FOUND, f"recurringMessages/{id}")
    return found


async def pause(tx: Tx, id: UUID) -> Recurring:
    """When this is committed, no further occurrence is made. Raises RECURRING_MESSAGE_NOT_FOUND, ALREADY_ENDED."""
    row = await _living(tx, id)
    return (
        row if row.state is RecurringState.PAUSED else await recurring.change(tx, id, RecurringState.PAUSED, "", None)
    )


async def resume(tx: Tx, id: UUID) -> Recurring:
    """It goes on with the first occurrence after now, or ends if there is none. Raises RECURRING_MESSAGE_NOT_FOUND,
    ALREADY_ENDED."""
    row = await _living(tx, id)
    if row.state is RecurringState.ACTIVE:
        return row
    next_time, why = _next(row, await tx.now())
    state = RecurringState.ENDED if next_time is None else RecurringState.ACTIVE
    return await recurring.change(tx, id, state, why, next_time)


async def end(tx: Tx, id: UUID, by: str) -> Recurring:
    """End it. Raises RECURRING_MESSAGE_NOT_FOUND."""
    row = await find(tx, id, lock=True)
    if row.state is RecurringState.ENDED:
        return row
    return await recurring.change(tx, id, RecurringState.ENDED, f"ended by {by}", None)


class Recur:
    """Makes the messages of due occurrences. Every replica may run it: a recurring message is claimed by its row."""

    def __init__(self, db: Database, hints: Hints, notes: Notes = NO_NOTES) -> None:
        self._db = db
        self._hints = hints
        self._notes = notes

    async def everything(self) -> None:
        """Rounds until no more is due. Raises DATABASE_UNAVAILABLE: due occurrences stay due."""
        more = True
        while more:
            async with self._db.claim() as tx:
                more = await self._round(tx)

    async def _round(self, tx: Tx) -> bool:
        """Whether anything was due. The claim and the messages it makes are one transaction."""
        rows = await recurring.due(tx, MOST_PER_ROUND)
        if not rows:
            return False
        now = await tx.now()
        end = time.monotonic() + _TURN
        made: list[Occurrence] = []
        turns: list[Turn] = []
        for row in rows:
            assert row.next_time is not None, "an active one has a time"
            planned, following, why = _latest_until(row, row.next_time, now)
            id = uuid5(row.id, planned.isoformat())
            made.append(Occurrence(id, row, planned))
            state = RecurringState.ENDED if following is None else RecurringState.ACTIVE
            turns.append(Turn(row, state, why, following, id))
            if time.monotonic() > end:
                break
        await recurring.occur(tx, made)
        await recurring.settle(tx, turns)
        tx.after_commit(lambda: self._tell(made, now))
        return True

    def _tell(self, made: list[Occurrence], now: datetime) -> None:
        self._hints.messages([(each.id, 0.0) for each in made])
        note_all(
            self._notes,
            (
                scheduled(each.id, each.of.org_id, each.of.user_id, each.of.channel, each.send_time, now)
                for each in made
            ),
        )
        _log.info("recurring_messages", made=len(made))


def _first(start: tuple[str, str], rule: str, now: datetime) -> datetime:
    date_time, time_zone = start
    try:
        recurrence = Recurrence(read_rule(rule), wall_time_of(date_time), time_zone)
        if recurrence.start > now.replace(tzinfo=None) + AHEAD:
            raise BadTime("date_time", f"must lie within the next {AHEAD.days} days")
        if recurrence.start < now.replace(tzinfo=None) - _BEHIND:
            raise BadTime(
                "date_time", f"must not lie more than {_BEHIND.days} days in the past; give a later occurrence"
            )
        found = recurrence.next_after(now)
    except BadRule as error:
        raise invalid("rule", str(error)) from error
    except BadTime as error:
        raise invalid(f"start.{error.field}", str(error)) from error
    if found is None:
        raise invalid("rule", "must have an occurrence after now")
    return found


def _latest_until(row: Recurring, planned: datetime, now: datetime) -> tuple[datetime, datetime | None, str]:
    """The latest occurrence from `planned` until now, the one after it, and why there is none."""
    latest, following, why = _around(row, planned, max(planned, now))
    return latest or planned, following, why


def _next(row: Recurring, moment: datetime) -> tuple[datetime | None, str]:
    """The first occurrence after a time; or the reason why there is none."""
    _, following, why = _around(row, moment, moment)
    return following, why


def _around(row: Recurring, since: datetime, until: datetime) -> tuple[datetime | None, datetime | None, str]:
    """The last occurrence in between, the first one after `until`, and, without such a one, the reason.

    A rule that this version cannot read ends, with the reason: an error would end every round, for all tenants.
    """
    try:
        made = Recurrence(read_rule(row.rule), wall_time_of(row.start_time), row.time_zone)
        latest, following = made.around(since, until)
    except (ArithmeticError, ValueError) as error:
        _log.error("recurring_message_unreadable", org_id=row.org_id, recurring_message=str(row.id), error=str(error))
        return None, None, f"its rule cannot be read any more: {error}"
    return latest, following, "" if following is not None else _OVER


async def _living(tx: Tx, id: UUID) -> Recurring:
    row = await find(tx, id, lock=True)
    if row.state is RecurringState.ENDED:
        name = f"recurringMessages/{id}"
        raise TocsinError(
            ErrorReason.ERROR_REASON_ALREADY_ENDED, f"{name} has ended; create a new one", metadata={"name": name}
        )
    return row
