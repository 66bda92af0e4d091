"""Plans for a time: overrides, fixed periods and absences. The past of each never changes."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, TypeVar
from uuid import UUID

from tocsin.errors.v1 import error_reason_pb2 as reasons
from tocsin_kit.db.pool import Database, Tx
from tocsin_kit.errors import TocsinError, invalid, not_found

from tocsin_escalation.store.schedules.planned import Planned, PlannedRow

R = TypeVar("R", bound=PlannedRow)

MOST: Final = 200
"""Plans of one schedule or user that have not ended."""
LONGEST: Final = timedelta(days=400)


async def begin(tx: Tx, table: Planned[R], row: R, about: str, message: str) -> datetime:
    """When the new row begins: at its start, or now. `message` is the field that holds it.

    Raises INVALID_FIELD for a time in the past or too far away, LIMIT_REACHED.
    """
    now = minute(await tx.now())
    if row.end_time <= now:
        raise invalid(f"{message}.end_time", "must lie in the future: what was cannot be changed")
    if row.end_time <= row.start_time:
        raise invalid(f"{message}.end_time", "must be later than start_time")
    if row.end_time > now + LONGEST:
        raise invalid(f"{message}.end_time", f"must be at most {LONGEST.days} days ahead")
    if await table.waiting(tx, about) >= MOST:
        raise too_many(about, table.table, MOST)
    return max(row.start_time, now)


def too_many(about: str, limit: str, allowed: int) -> TocsinError:
    """LIMIT_REACHED for a schedule or user with too many plans that have not ended."""
    return TocsinError(
        reasons.ERROR_REASON_LIMIT_REACHED,
        f"{about} has {limit} that have not ended, and may have {allowed} at most",
        metadata={"limit": limit.replace(" ", "_"), "allowed": str(allowed)},
        retry_after=60.0,
    )


async def page(
    db: Database, org_id: str, table: Planned[R], about: str, ended: bool, cursor: Sequence[object] | None, limit: int
) -> list[R]:
    """Rows by their end; with `ended` also those that have ended."""
    after = None
    if cursor is not None:
        time, id = cursor
        assert isinstance(time, datetime), "a page token holds what was put into it"
        assert isinstance(id, UUID), "a page token holds what was put into it"
        after = (time, id)
    async with db.transaction(org_id) as tx:
        now = await tx.now()
        return await table.page(tx, about, now - LONGEST if ended else now, after, limit)


async def take_back(tx: Tx, table: Planned[R], id: UUID, name: str, absent: "reasons.ErrorReason.ValueType") -> R:
    """Take a row back, and return it as it was; one that has begun ends now. Raises `absent`, ALREADY_ENDED."""
    row = await table.get(tx, id)
    if row is None:
        raise not_found(absent, name)
    now = minute(await tx.now())
    if row.end_time <= now:
        text = f"{name} has ended; what was cannot be changed"
        raise TocsinError(reasons.ERROR_REASON_ALREADY_ENDED, text, metadata={"name": name})
    if row.start_time < now:
        await table.end(tx, id, now)
    else:
        await table.delete(tx, id)
    return row


def minute(time: datetime) -> datetime:
    """The beginning of the minute: schedules know no shorter time."""
    return time.replace(second=0, microsecond=0)
