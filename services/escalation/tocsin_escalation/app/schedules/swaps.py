"""Swaps: a user offers time on call, others accept or decline, and an accepted swap becomes overrides."""

from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Tx
from tocsin_kit.errors import TocsinError, invalid, not_found
from tocsin_kit.ids import new_id
from tocsin_kit.rpc.masks import require_etag

from tocsin_escalation.app.computing import Computations
from tocsin_escalation.app.notices import swap_messages
from tocsin_escalation.app.people import targets
from tocsin_escalation.app.schedules import planned, reading
from tocsin_escalation.app.schedules.schedules import LONGEST_OF_ALL, must
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.schedules.clock import minute_of, time_of
from tocsin_escalation.domain.schedules.model import Schedule, Scope, Segment
from tocsin_escalation.domain.schedules.swaps import NotPossible, Replacement, SwapStretch, exchange, must_have
from tocsin_escalation.domain.schedules.versions import current
from tocsin_escalation.store.schedules import on_call, overrides, swaps
from tocsin_escalation.store.schedules.overrides import OverrideRow
from tocsin_escalation.store.schedules.planned import Cursor
from tocsin_escalation.store.schedules.schedules import ScheduleRow
from tocsin_escalation.store.schedules.swaps import SwapRow, SwapState

LONGEST: Final = LONGEST_OF_ALL
"""Of one stretch of time."""
COLLECTION: Final = "swaps"


async def create(tx: Tx, row: SwapRow, computations: Computations) -> SwapRow:
    """A new offer. Raises INVALID_FIELD, SCHEDULE_NOT_FOUND and USER_NOT_FOUND (as INVALID_ARGUMENT), LIMIT_REACHED."""
    giver = ("swap.user", Target(TargetKind.USER, row.user_id))
    others = [(f"swap.offered_to[{n}]", Target(TargetKind.USER, user)) for n, user in enumerate(row.offered_to)]
    await targets.check(tx, [("swap.schedule", Target(TargetKind.SCHEDULE, row.schedule_id)), giver, *others])
    if row.user_id in row.offered_to:
        raise invalid("swap.offered_to", f"names users/{row.user_id}, whose time is offered")
    # The schedule is not changed until this has committed.
    kept = await must(tx, row.schedule_id, lock=True)
    _check_times(row, planned.minute(await tx.now()))
    await planned.begin(tx, swaps.TABLE, row, row.user_id, "swap.offered")
    # An offer to one user is checked with that user; in other offers a user is checked when they accept.
    taker = row.offered_to[0] if len(row.offered_to) == 1 else ""
    schedule = await _schedule(tx, row, taker, computations)
    stretches = _stretches(row, taker) if taker else [_offered(row, taker)]
    possible = computations.result(_exchanged if taker else _had, _content(schedule), *stretches)
    if isinstance(possible, NotPossible):
        field = "offered" if possible.stretch.giver == row.user_id else "in_return"
        raise invalid(f"swap.{field}", str(possible))
    made = await swaps.insert(tx, row)
    await swap_messages.offered(tx, made, row.offered_to or _line_ups(kept))
    return made


async def must_read(tx: Tx, id: UUID) -> tuple[SwapRow, datetime]:
    """One swap, and what time it is. Raises SWAP_NOT_FOUND."""
    row = await swaps.get(tx, id)
    if row is None:
        raise not_found(reasons.ERROR_REASON_SWAP_NOT_FOUND, f"{COLLECTION}/{id}")
    return row, await tx.now()


async def page(
    tx: Tx, schedule: str, user: str, closed: bool, after: Cursor | None, limit: int
) -> tuple[list[SwapRow], datetime]:
    """Swaps by their end, and the present time; with `closed` also those that are no longer offered."""
    now = await tx.now()
    since = now - planned.LONGEST if closed else now
    return await swaps.page(tx, schedule, user, closed=closed, ended_after=since, after=after, limit=limit), now


async def must_be_offered(tx: Tx, id: UUID, etag: str) -> SwapRow:
    """A locked one that is still offered. Raises SWAP_NOT_FOUND, ETAG_MISMATCH, SWAP_STATE."""
    name = f"{COLLECTION}/{id}"
    row = await swaps.TABLE.get(tx, id)
    if row is None:
        raise not_found(reasons.ERROR_REASON_SWAP_NOT_FOUND, name)
    require_etag(etag, row.version)
    state = row.state_at(await tx.now())
    if state is not SwapState.OFFERED:
        text = f"{name} is not offered any more: it is {state}"
        raise TocsinError(reasons.ERROR_REASON_SWAP_STATE, text, metadata={"name": name, "state": state.value})
    return row


async def accept(tx: Tx, row: SwapRow, user: str, author: str, computations: Computations) -> SwapRow:
    """The overrides of a locked, offered swap that `user` accepts.

    Raises INVALID_FIELD, USER_NOT_FOUND (as INVALID_ARGUMENT), SWAP_NOT_POSSIBLE, LIMIT_REACHED.
    """
    # A transaction that changes the schedule or its overrides waits, or has committed before.
    kept = await must(tx, row.schedule_id, lock=True)
    await _may_take(tx, row, kept, user)
    schedule = await _schedule(tx, row, user, computations)
    made = computations.result(_exchanged, _content(schedule), *_stretches(row, user))
    if isinstance(made, NotPossible):
        name = f"{COLLECTION}/{row.id}"
        text = f"{name} is not possible any more: {made}"
        raise TocsinError(reasons.ERROR_REASON_SWAP_NOT_POSSIBLE, text, metadata={"name": name})
    if await overrides.TABLE.waiting(tx, row.schedule_id) + len(made) > planned.MOST:
        raise planned.too_many(f"schedules/{row.schedule_id}", "overrides", planned.MOST)
    for each in made:
        await overrides.insert(tx, _override(row, each, author))
    await swap_messages.answered(tx, row, [user], accepted=True)
    return await swaps.close(tx, row.id, SwapState.ACCEPTED, user, row.declined_by)


async def decline(tx: Tx, row: SwapRow, user: str) -> SwapRow:
    """A locked, offered swap, without `user` as a receiver. Raises INVALID_FIELD, USER_NOT_FOUND (as INVALID_ARGUMENT)."""
    await _may_take(tx, row, await must(tx, row.schedule_id), user)
    declined = row.declined_by if user in row.declined_by else (*row.declined_by, user)
    gone = row.offered_to and set(row.offered_to) <= set(declined)
    if gone:
        await swap_messages.answered(tx, row, declined, accepted=False)
    return await swaps.close(tx, row.id, SwapState.DECLINED if gone else SwapState.OFFERED, "", declined)


async def withdraw(tx: Tx, row: SwapRow) -> SwapRow:
    """Withdraw a locked, offered swap."""
    return await swaps.close(tx, row.id, SwapState.WITHDRAWN, "", row.declined_by)


def _check_times(row: SwapRow, now: datetime) -> None:
    """Checks the lengths and the starts; `planned.begin` checks the other times."""
    for field, start, end in (
        ("offered", row.start_time, row.end_time),
        ("in_return", row.return_start_time, row.return_end_time),
    ):
        if start is None or end is None:
            continue
        if start <= now:
            raise invalid(f"swap.{field}.start_time", "must lie in the future: an offer ends when its time begins")
        if not timedelta() < end - start <= LONGEST:
            raise invalid(f"swap.{field}.end_time", f"must be later than start_time, by {LONGEST.days} days at most")
        if end > now + planned.LONGEST:
            raise invalid(f"swap.{field}.end_time", f"must be at most {planned.LONGEST.days} days ahead")


async def _may_take(tx: Tx, row: SwapRow, schedule: ScheduleRow, user: str) -> None:
    await targets.check(tx, [("user", Target(TargetKind.USER, user))])
    if user == row.user_id:
        raise invalid("user", f"users/{user} offers the swap; WithdrawSwap takes it back")
    if row.offered_to and user not in row.offered_to:
        raise invalid("user", f"{COLLECTION}/{row.id} is not offered to users/{user}")
    if not row.offered_to and user not in _line_ups(schedule):
        text = f"{COLLECTION}/{row.id} is offered to the users of schedules/{schedule.id}, and users/{user} is in no line-up"
        raise invalid("user", text)


def _line_ups(schedule: ScheduleRow) -> set[str]:
    return {each for layer in current(schedule.layers) for group in layer.line_up for each in group}


async def _schedule(tx: Tx, row: SwapRow, taker: str, computations: Computations) -> Schedule:
    """With all data that affects the stretches; and whether the user who takes over can be paged."""
    since, until = row.begins, max(row.end_time, row.return_end_time or row.end_time)
    key = (tx.org_id, row.schedule_id)
    schedule = (await reading.load(tx, [key], since, until, computations))[key]
    gone = (await on_call.people_gone(tx, [(tx.org_id, taker)] if taker else [], since, until)).get(tx.org_id)
    if gone is None:
        return schedule
    return replace(schedule, absences={**schedule.absences, **gone.times()}, unusable=schedule.unusable | gone.unusable)


def _content(schedule: Schedule) -> tuple[Any, ...]:
    """All fields. Compared by content, because a schedule that was read again is a new object even if it is unchanged."""
    return tuple(getattr(schedule, each.name) for each in fields(schedule))


def _exchanged(content: tuple[Any, ...], *stretches: SwapStretch) -> Sequence[Replacement] | NotPossible:
    try:
        return exchange(Schedule(*content), *stretches)
    except NotPossible as refused:
        return refused


def _had(content: tuple[Any, ...], stretch: SwapStretch) -> Sequence[Segment] | NotPossible:
    try:
        return must_have(Schedule(*content), stretch)
    except NotPossible as refused:
        return refused


def _offered(row: SwapRow, taker: str) -> SwapStretch:
    return SwapStretch(minute_of(row.start_time), minute_of(row.end_time), row.user_id, taker)


def _stretches(row: SwapRow, taker: str) -> Sequence[SwapStretch]:
    if row.return_start_time is None or row.return_end_time is None:
        return [_offered(row, taker)]
    back = SwapStretch(minute_of(row.return_start_time), minute_of(row.return_end_time), taker, row.user_id)
    return [_offered(row, taker), back]


def _override(row: SwapRow, made: Replacement, author: str) -> OverrideRow:
    return OverrideRow(
        id=new_id(),
        schedule_id=row.schedule_id,
        start_time=time_of(made.start),
        end_time=time_of(made.end),
        scope=Scope.PERSON,
        replaced=made.of,
        users=made.people,
        reason=row.reason,
        author=author,
        swap_id=row.id,
    )
