"""Schedules: stored, changed, and resolved to who is on call."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, NoReturn

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import FieldViolation, TocsinError, invalid, invalid_fields, not_found
from tocsin_kit.rpc.masks import require_etag

from tocsin_escalation.app.computing import compute
from tocsin_escalation.app.people import targets
from tocsin_escalation.app.schedules import reading
from tocsin_escalation.domain.policy import Target, TargetKind
from tocsin_escalation.domain.schedules.checks import problems, too_much, zone_problem
from tocsin_escalation.domain.schedules.clock import minute_of
from tocsin_escalation.domain.schedules.model import Layer, Schedule, Segment
from tocsin_escalation.domain.schedules.questions import CurrentShift, standing, uncut
from tocsin_escalation.domain.schedules.resolve import resolve
from tocsin_escalation.domain.schedules.versions import Rollout, changed, current
from tocsin_escalation.store.schedules import on_call, schedules
from tocsin_escalation.store.schedules.on_call import LOOK_AHEAD, LOOK_BACK
from tocsin_escalation.store.schedules.schedules import ScheduleRow

LONGEST: Final = timedelta(days=92)
"""The longest time of one request: a longer one would use a processor for seconds."""
LONGEST_OF_ALL: Final = timedelta(days=35)
"""The longest time of a request over many schedules."""

Change = Callable[[ScheduleRow], ScheduleRow]
"""Changes a stored schedule; its layers are those that people wrote, without versions."""


async def get(db: Database, org_id: str, id: str) -> ScheduleRow:
    """One schedule. Raises SCHEDULE_NOT_FOUND."""
    async with db.transaction(org_id) as tx:
        return await must(tx, id)


async def create(tx: Tx, row: ScheduleRow) -> ScheduleRow:
    """A new schedule. Raises ALREADY_EXISTS, INVALID_FIELD, USER_NOT_FOUND."""
    await _check(tx, row)
    return await schedules.insert(tx, row) or _taken(f"schedules/{row.id}")


async def update(tx: Tx, id: str, etag: str, change: Change, rollout: Rollout) -> ScheduleRow:
    """The schedule after `change`. Raises SCHEDULE_NOT_FOUND, ETAG_MISMATCH, INVALID_FIELD, USER_NOT_FOUND."""
    row = await must(tx, id, lock=True)
    require_etag(etag, row.version)
    return await schedules.update(tx, await _changed(tx, row, change(row), rollout))


async def delete(tx: Tx, id: str, etag: str) -> ScheduleRow:
    """Delete a schedule; returns it as it was. Raises SCHEDULE_NOT_FOUND, ETAG_MISMATCH."""
    row = await must(tx, id, lock=True)
    require_etag(etag, row.version)
    await schedules.delete(tx, id)
    return row


async def resolved(
    db: Database, org_id: str, id: str, since: datetime, until: datetime, *, overflow: bool = False
) -> tuple[Segment, ...]:
    """Who is on call within [since, until). `overflow`: segments that begin before it or end after it are not cut.

    Raises SCHEDULE_NOT_FOUND, INVALID_FIELD.
    """
    first, last = span(since, until)
    async with db.transaction(org_id) as tx:
        beyond = (since - LOOK_BACK, until + LOOK_AHEAD) if overflow else (since, until)
        begun = await reading.begin(tx, [(org_id, id)], *beyond)
    found = await begun.finish(db, org_id)
    if (org_id, id) not in found:
        raise not_found(reasons.ERROR_REASON_SCHEDULE_NOT_FOUND, f"schedules/{id}")
    schedule = found[org_id, id]
    if overflow:
        return await compute(org_id, uncut, schedule, first, last)
    return await compute(org_id, resolve, schedule, first, last)


async def preview(
    db: Database, org_id: str, wanted: ScheduleRow, rollout: Rollout, since: datetime, until: datetime
) -> tuple[Segment, ...]:
    """Who would be on call if `wanted` were saved; of an existing schedule if it has an id. Raises as `update` does."""
    first, last = span(since, until)
    async with db.transaction(org_id) as tx:
        begun = await reading.begin(tx, [(org_id, wanted.id)] if wanted.id else [], since, until)
        if wanted.id:
            kept = await must(tx, wanted.id)
            wanted = await _changed(tx, kept, wanted, rollout)
        else:
            await _check(tx, wanted)
        users = [(org_id, user) for layer in wanted.layers for group in layer.line_up for user in group]
        gone = (await on_call.people_gone(tx, users, since, until)).get(org_id, on_call.Gone())
    found = await begun.finish(db, org_id)
    schedule = found.get((org_id, wanted.id)) or Schedule(wanted.id, wanted.time_zone)
    draft = replace(
        schedule,
        zone=wanted.time_zone,
        layers=wanted.layers,
        stand_in=wanted.stand_in,
        absences={**schedule.absences, **gone.times()},
        unusable=schedule.unusable | gone.unusable,
    )
    return await compute(org_id, resolve, draft, first, last)


async def on_calls(
    db: Database, org_id: str, only: Sequence[str], at: datetime | None, after: str, limit: int
) -> list[tuple[str, CurrentShift]]:
    """Who is on call at an instant, or now, by schedule id behind `after`."""
    async with db.transaction(org_id) as tx:
        ids = await schedules.ids(tx, after, limit, list(only) or None)
        time = at or await tx.now()
        begun = await reading.begin(tx, [(org_id, id) for id in ids], time - LOOK_BACK, time + LOOK_AHEAD)
    found = await begun.finish(db, org_id)
    minute = minute_of(time)

    def ask() -> list[tuple[str, CurrentShift]]:
        return [(id, standing(found[org_id, id], minute)) for id in ids if (org_id, id) in found]

    # In a thread: resolving hundreds of schedules that are not cached takes longer than other calls may wait.
    return await compute(org_id, ask)


async def stretches(
    db: Database, org_id: str, only: Sequence[str], since: datetime, until: datetime, after: str, limit: int
) -> list[tuple[str, tuple[Segment, ...]]]:
    """Who is on call within [since, until), by schedule id behind `after`. Raises INVALID_FIELD."""
    first, last = span(since, until, LONGEST_OF_ALL)
    async with db.transaction(org_id) as tx:
        ids = await schedules.ids(tx, after, limit, list(only) or None)
        begun = await reading.begin(tx, [(org_id, id) for id in ids], since, until)
    found = await begun.finish(db, org_id)
    return [(id, await compute(org_id, resolve, found[org_id, id], first, last)) for id in ids if (org_id, id) in found]


def span(since: datetime, until: datetime, longest: timedelta = LONGEST) -> tuple[int, int]:
    """The minutes of the requested time. Raises INVALID_FIELD about `end_time`."""
    first, last = minute_of(since), minute_of(until)
    if not first < last:
        raise invalid("end_time", "must be at least a minute later than start_time")
    if until - since > longest:
        raise invalid("end_time", f"must be at most {longest.days} days later than start_time")
    return first, last


async def must(tx: Tx, id: str, *, lock: bool = False) -> ScheduleRow:
    """A schedule of this tenant. Raises SCHEDULE_NOT_FOUND."""
    row = await schedules.get(tx, id, lock=lock)
    if row is None:
        raise not_found(reasons.ERROR_REASON_SCHEDULE_NOT_FOUND, f"schedules/{id}")
    return row


def warnings(row: ScheduleRow) -> list[str]:
    """What is wrong with a stored schedule, in words."""
    zones = dict.fromkeys((row.time_zone, *(layer.zone for layer in current(row.layers))))
    return [f"time_zone: {problem}; UTC counts instead" for zone in zones if (problem := zone_problem(zone))]


async def _changed(tx: Tx, kept: ScheduleRow, wanted: ScheduleRow, rollout: Rollout) -> ScheduleRow:
    await _check(tx, wanted, kept.layers)
    return replace(wanted, layers=changed(kept.layers, wanted.layers, minute_of(await tx.now()), rollout))


async def _check(tx: Tx, row: ScheduleRow, kept: Sequence[Layer] = ()) -> None:
    """Users whom `kept` names may be deleted by now: they must not prevent a change."""
    found = problems(row.time_zone, row.layers)
    if not found and (costly := too_much(row.layers, current(kept))):
        found = [costly]
    if found:
        raise invalid_fields([FieldViolation(f"schedule.{field}", text) for field, text in found])
    known = {target for _, target in _users(kept)}
    await targets.check(tx, [(field, target) for field, target in _users(row.layers) if target not in known])


def _users(layers: Sequence[Layer]) -> list[tuple[str, Target]]:
    return [
        (f"schedule.layers[{number}].line_up[{place}].users[{position}]", Target(TargetKind.USER, user))
        for number, layer in enumerate(layers)
        for place, group in enumerate(layer.line_up)
        for position, user in enumerate(group)
    ]


def _taken(name: str) -> NoReturn:
    raise TocsinError(reasons.ERROR_REASON_ALREADY_EXISTS, f"{name} exists already", metadata={"name": name})
